#pragma once
// Timing as docs/performance.md describes it: repeated runs, best and median, one line a case.

#include <functional>
#include <string>

#include "qkv/io/json.h"
#include "qkv/tensor/matmul.h"

namespace qkv::cli {

struct Timing {
  int64_t n = 0;
  double min_s = 0, med_s = 0;
  double steal_pct =
      0;  // share of CPU time that the host took away meanwhile: a high value marks a disturbed run
  double flops = 0;  // of the products that a call did (tensor/matmul.h): what a mask hides is not in it
};

/// At least `reps` timed calls after `warm` untimed ones, more while they sum to under half a second; stops
/// past `budget` seconds, but not below three.
Timing timed(const std::function<void()>& f, int64_t reps = 5, int64_t warm = 2, double budget = 60);

double peak_rss_mb();

struct BenchCase {
  std::string name, shape;
  Precision precision;          // of products, whose peak they are compared with
  std::string unit = "gflops";  // or tok_s
  double work = 0;              // of a call: 10^9 operations as the peers' scripts count them, or tokens
  double bytes = 0;             // that a call has to read and write at least; 0: products bind, not memory
  io::Json more = io::Json::object();
};

/// One line of JSON: {"case", "n", "min_ms", "med_ms", <unit>_best, <unit>_med}, where bytes are given
/// "gb_s_best", "gb_s_med", then of_peak, bound, `more`, shape, dtype, isa, threads, peak_rss_mb, steal_pct;
/// or the same to read.
///
/// of_peak is the share of the roofline (tensor/roofline.h) that the median reaches: the time that the
/// products take at peak_flops(), or the bytes at read_bandwidth() of as many, whichever is longer and so
/// binds, over the median. The figures are measured here, the first time, so after whatever is timed.
void print_case(const BenchCase& what, const Timing& timing, bool json);

}  // namespace qkv::cli
