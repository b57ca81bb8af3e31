#include <fmt/core.h>

#include <cmath>
#include <vector>

#include "apps/cli/doctor.h"
#include "apps/cli/output.h"
#include "apps/cli/table.h"
#include "qkv/base/cpu.h"
#include "qkv/base/parallel.h"
#include "qkv/io/json.h"
#include "qkv/tensor/roofline.h"

namespace qkv::cli {
namespace {

constexpr double kSeconds = 0.35;  // a figure; there are eighteen, and memory to fill first

struct Figure {
  std::string key, label;
  int64_t bytes = 0;        // of memory in use by all threads; 0: registers
  double one = 0, all = 0;  // 10^9 a second
};

// measure(n) with n threads.
template <class Measure>
Figure figure(std::string key, std::string label, int64_t bytes, Measure&& measure) {
  const double one = measure(1) / 1e9;
  return {.key = std::move(key),
          .label = std::move(label),
          .bytes = bytes,
          .one = one,
          .all = threads() == 1 ? one : measure(threads()) / 1e9};
}

std::vector<Figure> peaks() {
  std::vector<Figure> figures;
  for (const Multiplied numbers : {Multiplied::kF32, Multiplied::kBF16, Multiplied::kInt8})
    figures.push_back(figure(std::string(name(numbers)), fmt::format("{} products", name(numbers)), 0,
                             [&](int n) { return measure_peak(numbers, n, kSeconds); }));
  return figures;
}

std::vector<Figure> bandwidths() {
  std::vector<Figure> figures;
  const auto add = [&](const char* key, const char* label, Traffic traffic, int64_t LevelBytes::*level) {
    figures.push_back(figure(key, label, level_bytes(threads()).*level, [&](int n) {
      return measure_bandwidth(traffic, level_bytes(n).*level, n, kSeconds);
    }));
  };
  add("read_l1", "read L1", Traffic::kRead, &LevelBytes::l1);
  add("read_l2", "read L2", Traffic::kRead, &LevelBytes::l2);
  if (cache_sizes().l3 > 0) add("read_l3", "read L3", Traffic::kRead, &LevelBytes::l3);
  add("read_dram", "read DRAM", Traffic::kRead, &LevelBytes::dram);
  add("write_dram", "write DRAM, past the caches", Traffic::kWrite, &LevelBytes::dram);
  add("copy_dram", "copy DRAM, read + write", Traffic::kCopy, &LevelBytes::dram);
  return figures;
}

nlohmann::ordered_json to_json(const std::vector<Figure>& figures) {
  const auto rounded = [](double x) { return std::round(x * 10) / 10; };
  nlohmann::ordered_json json;
  for (const Figure& f : figures) {
    json[f.key] = {{"one", rounded(f.one)}, {"all", rounded(f.all)}};
    if (f.bytes > 0) json[f.key]["bytes"] = f.bytes;
  }
  return json;
}

std::string size_text(int64_t bytes) {
  return bytes == 0         ? ""
         : bytes < 10 << 20 ? fmt::format("{} KiB", bytes >> 10)
                            : fmt::format("{} MiB", bytes >> 20);
}

}  // namespace

void print_roofline(bool json) {
  const std::vector<Figure> compute = peaks(), memory = bandwidths();
  if (json) {
    const nlohmann::ordered_json line = {{"isa", name(isa())},
                                         {"threads", threads()},
                                         {"peak_gflops", to_json(compute)},
                                         {"gb_s", to_json(memory)}};
    return print("{}\n", line.dump());
  }
  const bool alone = threads() == 1;
  std::vector<std::string> head = {"", "memory", "1 thread"};
  if (!alone) head.push_back(fmt::format("{} threads", threads()));
  head.push_back("");
  Table table(head);
  for (const auto* figures : {&compute, &memory})
    for (const Figure& f : *figures) {
      std::vector<std::string> row = {f.label, size_text(f.bytes), fmt::format("{:.1f}", f.one)};
      if (!alone) row.push_back(fmt::format("{:.1f}", f.all));
      row.push_back(figures == &memory ? "GB/s" : f.key == "int8" ? "GOP/s" : "GFLOP/s");
      table.add(row);
    }
  print("{}\n", table.text());
  const double dram = memory[memory.size() - 3].all;
  print(
      "Above {:.0f} FLOP for each byte of DRAM products bind in f32, above {:.0f} in bf16; below, memory "
      "does.\n",
      compute[0].all / dram, compute[1].all / dram);
}

}  // namespace qkv::cli
