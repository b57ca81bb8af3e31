#include "apps/cli/sweep.h"

#include <fmt/core.h>
#include <toml++/toml.h>

#include <algorithm>
#include <tuple>

#include "apps/cli/progress.h"
#include "apps/cli/table.h"
#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/io/file.h"
#include "qkv/io/json.h"

namespace qkv::cli {
namespace {

constexpr int64_t kMaxBytes = 1 << 20;
constexpr size_t kMostRuns = 1000;

std::string text_of(const toml::node& value, const std::string& where) {
  if (const auto* text = value.as_string()) return text->get();
  if (const auto* integer = value.as_integer()) return fmt::format("{}", integer->get());
  if (const auto* number = value.as_floating_point()) return fmt::format("{}", number->get());
  if (const auto* boolean = value.as_boolean()) return boolean->get() ? "true" : "false";
  throw_error(ErrorCode::kFormat, "{}: holds a value that is no text, number, true or false", where);
}

}  // namespace

std::vector<SweepPoint> read_sweep(const std::string& path) {
  const std::string text = io::read_file(path, kMaxBytes);
  toml::table file;
  try {
    file = toml::parse(text, path);
  } catch (const toml::parse_error& e) {
    throw_error(ErrorCode::kFormat, "{}: line {}: {}", path, e.source().begin.line, escape(e.description()));
  }
  std::vector<SweepPoint> points = {{}};
  for (const auto& [key, node] : file) {
    const std::string where = path + ": " + escape(key.str());
    const toml::array* values = node.as_array();
    QKV_CHECK(values != nullptr && !values->empty(), kFormat,
              "{}: needs to be a list of the values to try, [0.001, 0.003] say", where);
    std::vector<std::string> texts;
    for (const toml::node& value : *values) {
      texts.push_back(text_of(value, where));
      QKV_CHECK(std::count(texts.begin(), texts.end(), texts.back()) == 1, kValue, "{}: lists {} twice",
                where, quote(texts.back()));
    }
    std::vector<SweepPoint> longer;
    for (const SweepPoint& point : points)
      for (const std::string& value : texts) {
        longer.push_back(point);
        longer.back().emplace_back(key.str(), value);
      }
    points = std::move(longer);
    QKV_CHECK(points.size() <= kMostRuns, kValue, "{}: over {} combinations", path, kMostRuns);
  }
  QKV_CHECK(!file.empty(), kValue, "{}: names no setting to vary", path);
  return points;
}

std::string sweep_name(const SweepPoint& point) {
  std::string name;
  for (const auto& [key, value] : point) {
    // Two values never become one name: what a folder's name cannot well have is written as %XX.
    std::string plain;
    for (const char c : value) {
      const auto byte = static_cast<unsigned char>(c);
      plain += std::isalnum(byte) != 0 || c == '.' || c == '-' || c == '_' ? std::string(1, c)
                                                                           : fmt::format("%{:02x}", byte);
    }
    name += fmt::format("{}{}={}", name.empty() ? "" : ",", key, plain);
  }
  QKV_CHECK(name.size() <= 255, kValue, "sweep: {} is too long for the name of a folder: vary less at once",
            quote(name));
  return name;
}

SweepResult read_sweep_result(const std::string& name, const std::string& path) {
  const io::Json json = io::read_json(path);
  return {.name = name,
          .failure = "",
          .by = io::get_string(json, "chosen_by", path),
          .value = io::get_number(json, "chosen_value", -1e300, 1e300, path),
          .loss = io::get_number(json, "chosen_loss", -1e300, 1e300, path),
          .seconds = io::get_number(json, "seconds", 0, 1e15, path),
          .chosen = io::get_string(json, "chosen", path)};
}

std::string sweep_table(std::vector<SweepResult> results) {
  const auto rank = [](const SweepResult& r) {
    const bool failed = !r.failure.empty(), by_score = r.by == "score";
    return std::tuple(failed, !by_score, by_score ? -r.value : 0, r.loss, r.seconds);
  };
  std::stable_sort(results.begin(), results.end(),
                   [&](const SweepResult& a, const SweepResult& b) { return rank(a) < rank(b); });
  Table table({"run", "score", "loss", "time", "weights"});
  std::string failures;
  for (const SweepResult& r : results)
    if (r.failure.empty())
      table.add({r.name, r.by == "score" ? fmt::format("{:.4f}", r.value) : "-",
                 fmt::format("{:.4f}", r.loss), duration(r.seconds), r.chosen});
    else
      failures += fmt::format("{}  failed: {}\n", r.name, r.failure);
  return table.text() + failures;
}

}  // namespace qkv::cli
