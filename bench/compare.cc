// Two commands in turn, and how many times as fast ours is: on a machine that others share, only what ran in
// the same minutes can be compared.
//
//   bench_compare --peer 'python3 bench/peers/torch_train.py --case nmt-3+3x256-8k --dtype bf16'
//                 --ours 'build/release/qkv bench train --case nmt-3+3x256-8k --dtype bf16 --json'
//
// Each prints lines on standard output; the last that is a JSON object with the key counts. A round is one
// run of each, the order changing from round to round so that a drift of the machine falls on both. The ratio
// is the median over rounds of that of the round; its 25th and 75th percentiles say what it is worth.
//
// --by shape compares line by line instead, each of the peer's with ours of the same shape: one run measures
// many.

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
  std::string peer, ours, key, peer_key, better, by, markdown;
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

bool has_number(const Json& line, const std::string& key) {
  return line.contains(key) && line[key].is_number();
}

// The last line that has the number, under ""; with `by`, the last for each of its values, in order.
using Lines = nlohmann::ordered_map<std::string, Json>;
Lines lines_of(const std::vector<Json>& objects, const std::string& key, const std::string& by) {
  Lines lines;
  for (const Json& line : objects)
    if (has_number(line, key) && (by.empty() || line.contains(by)))
      lines[by.empty() ? "" : line[by].is_string() ? line[by].get<std::string>() : line[by].dump()] = line;
  return lines;
}

Lines measure(const std::string& command, const std::string& key, const std::string& by) {
  const std::vector<Json> objects = objects_of(command);
  Lines lines = lines_of(objects, key, by);
  std::string there;
  if (!objects.empty())
    for (const auto& [name, any] : objects.back().items())
      if (any.is_number()) there += (there.empty() ? "" : ", ") + name;
  QKV_CHECK(!lines.empty(), kValue, "compare: {} prints no JSON line with a number {}{}; {}", quote(command),
            quote(key), by.empty() ? "" : " and " + quote(by),
            there.empty() ? "it prints none at all (--json?)" : "its last one has " + there);
  for (const auto& [name, line] : lines)
    QKV_CHECK(line[key].get<double>() > 0, kValue, "compare: {} says that {} is {}, needs a number above 0",
              quote(command), quote(key), line[key].get<double>());
  return lines;
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
    if (!lines_of(peer, key, f.by).empty() && !lines_of(ours, key, f.by).empty()) return key;
  throw_error(ErrorCode::kValue,
              "compare: the commands print no JSON lines with med_ms, tok_s_med or tok_s in both; "
              "name what to compare with --key");
}

// One measured thing, round by round.
struct Series {
  std::vector<double> peer, ours, ratios, peer_mb, ours_mb;
  Json line;  // ours, the last
};

// 15,447 tokens/s
std::string with_unit(double value, const std::string& key) {
  static const std::pair<const char*, const char*> kUnits[] = {
      {"_ms", "ms"}, {"tok_s", "tokens/s"}, {"seq_s", "texts/s"}, {"gflops", "GFLOP/s"}};
  std::string digits = value >= 1000 ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}", value);
  if (value >= 1000)
    for (size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, ",");
  for (const auto& [part, unit] : kUnits)
    if (key.find(part) != std::string::npos) return digits + " " + unit;
  return digits + " " + key;
}

void print_markdown(const Flags& f, const std::string& name, const Series& s) {
  const auto field = [&s](const char* key) {
    return !s.line.contains(key)     ? ""
           : s.line[key].is_string() ? s.line[key].get<std::string>()
                                     : s.line[key].dump();
  };
  // The memory of a run that measures many things is of none of them.
  const bool memory = f.by.empty() && !s.peer_mb.empty() && !s.ours_mb.empty();
  fmt::print("| {}{}{} | {} | {} | {} | {} | {:.2f} ({:.2f} to {:.2f}) | {} |\n", f.markdown,
             name.empty() ? "" : " ", name, field("dtype"), field("threads"),
             with_unit(median(s.peer), f.peer_key), with_unit(median(s.ours), f.key), median(s.ratios),
             quantile(s.ratios, 0.25), quantile(s.ratios, 0.75),
             memory ? fmt::format("{:.0f} / {:.0f} MB", median(s.peer_mb), median(s.ours_mb)) : "");
}

void print_json(const Flags& f, const std::string& name, const Series& s) {
  nlohmann::ordered_json line = {{"peer", f.peer},
                                 {"ours", f.ours},
                                 {"key", f.key},
                                 {"rounds", f.rounds},
                                 {"peer_med", median(s.peer)},
                                 {"ours_med", median(s.ours)},
                                 {"ratio", median(s.ratios)},
                                 {"ratio_p25", quantile(s.ratios, 0.25)},
                                 {"ratio_p75", quantile(s.ratios, 0.75)},
                                 {"ratios", s.ratios}};
  if (!f.by.empty()) line[f.by] = name;
  fmt::print("{}\n", line.dump());
}

void print_text(const Flags& f, const std::string& name, const Series& s) {
  const auto row = [](const char* who, const std::string& key, const std::vector<double>& values) {
    fmt::print("{}  {:>12.6g} {}  (from {:.6g} to {:.6g})\n", who, median(values), key,
               *std::min_element(values.begin(), values.end()),
               *std::max_element(values.begin(), values.end()));
  };
  if (!f.by.empty()) fmt::print("{} {}\n", f.by, name);
  row("peer", f.peer_key, s.peer);
  row("ours", f.key, s.ours);
  fmt::print("ours is {:.3f} times as fast (25th to 75th percentile of {} rounds: {:.3f} to {:.3f})\n",
             median(s.ratios), f.rounds, quantile(s.ratios, 0.25), quantile(s.ratios, 0.75));
}

void run(Flags f) {
  if (f.key.empty()) f.key = usual_key(f);
  if (f.peer_key.empty()) f.peer_key = f.key;
  const bool less = f.better.empty() ? is_time(f.key) : f.better == "less";
  nlohmann::ordered_map<std::string, Series> all;
  for (int64_t round = 0; round < f.rounds; ++round) {
    Lines peer, ours;
    for (int64_t turn = 0; turn < 2; ++turn) {
      if (round > 0 || turn > 0) std::this_thread::sleep_for(std::chrono::duration<double>(f.pause));
      if ((round + turn) % 2 == 0)
        peer = measure(f.peer, f.peer_key, f.by);
      else
        ours = measure(f.ours, f.key, f.by);
    }
    const auto match = [&f](const char* who, const Lines& lines, const Lines& others) {
      for (const auto& [name, line] : lines)
        QKV_CHECK(others.count(name) > 0, kValue, "compare: {} alone prints a line with {} {}", who,
                  quote(f.by), quote(name));
    };
    match("the peer", peer, ours);
    match("qkv", ours, peer);
    for (const auto& [name, line] : ours) {
      Series& s = all[name];
      const Json& other = peer.at(name);
      s.line = line;
      s.peer.push_back(other[f.peer_key].get<double>());
      s.ours.push_back(line[f.key].get<double>());
      s.ratios.push_back(less ? s.peer.back() / s.ours.back() : s.ours.back() / s.peer.back());
      if (has_number(other, "peak_rss_mb")) s.peer_mb.push_back(other["peak_rss_mb"].get<double>());
      if (has_number(line, "peak_rss_mb")) s.ours_mb.push_back(line["peak_rss_mb"].get<double>());
      if (isatty(STDERR_FILENO) != 0)
        fmt::print(stderr, "round {} of {}: {}{}peer {:.6g}, ours {:.6g}: {:.3f}\n", round + 1, f.rounds,
                   name, name.empty() ? "" : " ", s.peer.back(), s.ours.back(), s.ratios.back());
    }
  }
  const auto print = f.json ? print_json : f.markdown.empty() ? print_text : print_markdown;
  for (const auto& [name, s] : all) print(f, name, s);
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
  app.add_option("--by", f.by,
                 "compare line by line: the peer's with ours that has the same value here, as shape");
  CLI::Option* json = app.add_flag("--json", f.json, "one JSON object a comparison");
  app.add_option("--markdown", f.markdown,
                 "a row of a table, beginning with this: dtype, threads, peer, ours, ratio, memory of both")
      ->excludes(json);
  app.footer(
      "Example:\n"
      "  bench_compare --key med_ms --peer 'python3 bench/peers/torch_train.py --case gpt-6x384-8k --dtype "
      "bf16' \\\n"
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
