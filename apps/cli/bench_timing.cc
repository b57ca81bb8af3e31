#include "apps/cli/bench_timing.h"

#include <fmt/core.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <vector>

#include "apps/cli/output.h"
#include "qkv/base/counted.h"
#include "qkv/base/cpu.h"
#include "qkv/base/parallel.h"
#include "qkv/base/trace.h"
#include "qkv/tensor/matmul.h"
#include "qkv/tensor/roofline.h"

namespace qkv::cli {
namespace {

struct CpuTime {
  double total = 0, stolen = 0;
};

CpuTime cpu_time() {
  std::ifstream stat("/proc/stat");
  std::string label;
  stat >> label;
  CpuTime t;
  for (int i = 0; i < 8; ++i) {
    double v = 0;
    stat >> v;
    t.total += v;
    if (i == 7) t.stolen = v;
  }
  return t;
}

double rounded(double x, int digits) {
  const double f = std::pow(10.0, digits);
  return std::round(x * f) / f;
}

// "gflops", the key of JSON, as a reader writes it.
std::string_view readable(std::string_view unit) {
  return unit == "gflops" ? "GFLOP/s" : unit == "tok_s" ? "tokens/s" : unit;
}

}  // namespace

Timing timed(const std::function<void()>& f, int64_t reps, int64_t warm, double budget) {
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point t) {
    return std::chrono::duration<double>(Clock::now() - t).count();
  };
  for (int64_t i = 0; i < warm; ++i) {
    const trace::Span span("warm_up");
    f();
  }
  const CpuTime before = cpu_time();
  const int64_t flops_before = flop_count();
  const auto start = Clock::now();
  std::vector<double> times;
  double sum = 0;
  while (static_cast<int64_t>(times.size()) < reps || (times.size() < 50 && sum < 0.5)) {
    const trace::Span span("call");
    const auto t = Clock::now();
    f();
    times.push_back(since(t));
    sum += times.back();
    if (since(start) > budget && times.size() >= 3) break;
  }
  const int64_t flops = flop_count() - flops_before;
  const CpuTime after = cpu_time();
  std::sort(times.begin(), times.end());
  const size_t n = times.size();
  return {.n = static_cast<int64_t>(n),
          .min_s = times.front(),
          .med_s = n % 2 ? times[n / 2] : (times[n / 2 - 1] + times[n / 2]) / 2,
          .steal_pct = 100 * (after.stolen - before.stolen) / std::max(1.0, after.total - before.total),
          .flops = static_cast<double>(flops) / static_cast<double>(n)};
}

double peak_rss_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

void print_case(const BenchCase& c, const Timing& t, bool json) {
  const double rss = peak_rss_mb();  // before the roofline takes memory of its own
  const double peak = peak_flops(multiplied(c.precision));
  const double compute = t.flops / peak;
  const double memory = c.bytes > 0 ? c.bytes / read_bandwidth(static_cast<int64_t>(c.bytes)) : 0;
  const bool memory_binds = memory > compute;
  const double of_peak = std::max(compute, memory) / t.med_s;

  nlohmann::ordered_json line = {{"case", c.name},
                                 {"n", t.n},
                                 {"min_ms", rounded(t.min_s * 1e3, 4)},
                                 {"med_ms", rounded(t.med_s * 1e3, 4)},
                                 {c.unit + "_best", rounded(c.work / t.min_s, 2)},
                                 {c.unit + "_med", rounded(c.work / t.med_s, 2)}};
  if (c.bytes > 0) {
    line["gb_s_best"] = rounded(c.bytes / t.min_s / 1e9, 2);
    line["gb_s_med"] = rounded(c.bytes / t.med_s / 1e9, 2);
  }
  line["of_peak"] = rounded(of_peak, 3);
  line["bound"] = memory_binds ? "memory" : "products";
  for (const auto& [key, value] : c.more.items()) line[key] = value;
  line["shape"] = c.shape;
  line["dtype"] = qkv::name(c.precision);
  line["isa"] = qkv::name(isa());
  line["threads"] = threads();
  line["peak_rss_mb"] = std::round(rss);
  line["steal_pct"] = rounded(t.steal_pct, 1);
  if (json) {
    print("{}\n", line.dump());
  } else {
    print("{:40} {:>10.3f} ms (best {:.3f})  {:>8.1f} {} (best {:.1f})", c.name, t.med_s * 1e3, t.min_s * 1e3,
          c.work / t.med_s, readable(c.unit), c.work / t.min_s);
    if (memory_binds)
      print("  {:>6.1f} GB/s, {:.0f} % of reading alone", c.bytes / t.med_s / 1e9, 100 * of_peak);
    else
      print("  {:.0f} % of the {:.0f} GFLOP/s peak", 100 * of_peak, peak / 1e9);
    for (const auto& [key, value] : c.more.items())
      print("  {} {}", key,
            value.is_number_float() ? fmt::format("{:.2f}", value.get<double>()) : value.dump());
    print("  {}, {}, {}, {:.0f} MB\n", counted(t.n, "run"), qkv::name(isa()), counted(threads(), "thread"),
          rss);
  }
  flush_stdout();
}

}  // namespace qkv::cli
