// Two commands in turn, and how many times as fast ours is: on a machine that others share, only what ran in
// the same minutes can be compared.
//
//   bench_compare --peer 'python3 torch_train.py --only nmt-3+3x256-8k,bf16'
//                 --ours 'build/release/qkv bench train --case nmt-3+3x256-8k --dtype bf16 --json'
//
// Each prints lines on standard output; the last that is a JSON object with the key counts. A round is one
// run of each, the order changing from round to round so that a drift of the machine falls on both. The ratio
// is the median over rounds of that of the round; its 25th and 75th percentiles say what it is worth.

#include <fmt/core.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/io/json.h"

namespace qkv {
namespace {

using io::Json;

struct Flags {
  std::string peer, ours, key, peer_key, better;
  int64_t rounds = 7;
  double pause = 2;
  bool json = false;
};

// What the command printed that is a JSON object, in order.
std::vector<Json> objects_of(const std::string& command) {
  std::FILE* pipe = popen(command.c_str(), "r");
  QKV_CHECK(pipe != nullptr, kIo, "compare: cannot start {}", quote(command));
  std::string text;
  char part[4096];
  while (const size_t n = std::fread(part, 1, sizeof(part), pipe)) text.append(part, n);
  const int status = pclose(pipe);
  QKV_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, kValue, "compare: {} ended with {} {}",
            quote(command), WIFEXITED(status) ? "status" : "signal",
            WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
  std::vector<Json> objects;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    Json json = Json::parse(text.substr(begin, end - begin), nullptr, false);
    if (json.is_object()) objects.push_back(std::move(json));
    begin = end + 1;
  }
  return objects;
}

std::optional<double> number(const std::vector<Json>& objects, const std::string& key) {
  for (auto line = objects.rbegin(); line != objects.rend(); ++line)
    if (line->contains(key) && (*line)[key].is_number()) return (*line)[key].get<double>();
  return {};
}

double measure(const std::string& command, const std::string& key) {
  const std::vector<Json> objects = objects_of(command);
  const std::optional<double> value = number(objects, key);
  std::string there;
  if (!objects.empty())
    for (const auto& [name, any] : objects.back().items())
      if (any.is_number()) there += (there.empty() ? "" : ", ") + name;
  QKV_CHECK(value, kValue, "compare: {} prints no JSON line with a number {}; {}", quote(command), quote(key),
            there.empty() ? "it prints none at all (--json?)" : "its last one has " + there);
  QKV_CHECK(*value > 0, kValue, "compare: {} says that {} is {}, needs a number above 0", quote(command),
            quote(key), *value);
  return *value;
}

// The p-th part of the sorted values, between neighbours in proportion.
double quantile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  const double at = p * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(at), above = std::min(below + 1, values.size() - 1);
  return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
}
double median(const std::vector<double>& values) { return quantile(values, 0.5); }

// med_ms, min_s, seconds, ... but not tok_s.
bool is_time(const std::string& key) {
  const std::string unit = key.substr(key.rfind('_') + 1);
  return unit == "ms" || unit == "us" || unit == "ns" || unit == "seconds" || key == "min_s" ||
         key == "med_s";
}

// The first of the usual keys that both print.
std::string usual_key(const Flags& f) {
  const std::vector<Json> peer = objects_of(f.peer), ours = objects_of(f.ours);
  for (const char* key : {"med_ms", "tok_s_med", "tok_s"})
    if (number(peer, key) && number(ours, key)) return key;
  throw_error(ErrorCode::kValue,
              "compare: the commands print no JSON lines with med_ms, tok_s_med or tok_s in both; "
              "name what to compare with --key");
}

void run(Flags f) {
  if (f.key.empty()) f.key = usual_key(f);
  if (f.peer_key.empty()) f.peer_key = f.key;
  const bool less = f.better.empty() ? is_time(f.key) : f.better == "less";
  std::vector<double> peer, ours, ratios;
  for (int64_t round = 0; round < f.rounds; ++round) {
    for (int64_t turn = 0; turn < 2; ++turn) {
      if (round > 0 || turn > 0) std::this_thread::sleep_for(std::chrono::duration<double>(f.pause));
      if ((round + turn) % 2 == 0)
        peer.push_back(measure(f.peer, f.peer_key));
      else
        ours.push_back(measure(f.ours, f.key));
    }
    ratios.push_back(less ? peer.back() / ours.back() : ours.back() / peer.back());
    if (isatty(STDERR_FILENO) != 0)
      fmt::print(stderr, "round {} of {}: peer {:.6g}, ours {:.6g}: {:.3f}\n", round + 1, f.rounds,
                 peer.back(), ours.back(), ratios.back());
  }
  const double ratio = median(ratios), low = quantile(ratios, 0.25), high = quantile(ratios, 0.75);
  if (f.json) {
    const nlohmann::ordered_json line = {
        {"peer", f.peer},           {"ours", f.ours},           {"key", f.key},   {"rounds", f.rounds},
        {"peer_med", median(peer)}, {"ours_med", median(ours)}, {"ratio", ratio}, {"ratio_p25", low},
        {"ratio_p75", high},        {"ratios", ratios}};
    fmt::print("{}\n", line.dump());
    return;
  }
  const auto row = [](const char* who, const std::string& key, const std::vector<double>& values) {
    fmt::print("{}  {:>12.6g} {}  (from {:.6g} to {:.6g})\n", who, median(values), key,
               *std::min_element(values.begin(), values.end()),
               *std::max_element(values.begin(), values.end()));
  };
  row("peer", f.peer_key, peer);
  row("ours", f.key, ours);
  fmt::print("ours is {:.3f} times as fast (25th to 75th percentile of {} rounds: {:.3f} to {:.3f})\n", ratio,
             f.rounds, low, high);
}

}  // namespace
}  // namespace qkv

int main(int argc, char** argv) {
  qkv::Flags f;
  CLI::App app{"Runs a peer's command and ours in turn and says how many times as fast ours is."};
  app.add_option("--peer", f.peer, "the peer's command, for a shell")->required();
  app.add_option("--ours", f.ours, "ours")->required();
  app.add_option(
      "--key", f.key,
      "number to compare, of the last JSON line that has it (default: med_ms, tok_s_med or tok_s, which both "
      "have; finding out takes a run of each)");
  app.add_option("--peer-key", f.peer_key, "its name in the peer's line (default: the same)");
  app.add_option("--better", f.better, "less or more (default: less for a time, as med_ms, else more)")
      ->check(CLI::IsMember({"less", "more"}));
  app.add_option("--rounds", f.rounds, "runs of each")->capture_default_str()->check(CLI::Range(1, 10000));
  app.add_option("--pause", f.pause, "seconds between runs")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 3600.0));
  app.add_flag("--json", f.json, "one JSON object");
  app.footer(
      "Example:\n"
      "  bench_compare --key med_ms --peer 'python3 torch_train.py --only gpt-6x384-8k,bf16' \\\n"
      "    --ours 'build/release/qkv bench train --case gpt-6x384-8k --dtype bf16 --json'");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  try {
    qkv::run(f);
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_compare: {}\n", e.what());
    return 1;
  }
  return 0;
}
