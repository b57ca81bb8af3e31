#pragma once
// Timing as docs/performance.md describes it: repeated runs, best and median, one line a case.

#include <functional>
#include <string>

#include "qkv/io/json.h"

namespace qkv::cli {

struct Timing {
  int64_t n = 0;
  double min_s = 0, med_s = 0;
  double steal_pct =
      0;  // share of CPU time that the host took away meanwhile: a high value marks a disturbed run
};

/// At least `reps` timed calls after `warm` untimed ones, more while they sum to under half a second; stops
/// past `budget` seconds, but not below three.
Timing timed(const std::function<void()>& f, int64_t reps = 5, int64_t warm = 2, double budget = 60);

double peak_rss_mb();

/// {"case": ..., "n", "min_ms", "med_ms", <unit>_best, <unit>_med} and `more`, then isa, threads,
/// peak_rss_mb, steal_pct, as one line of JSON; or the same to read: the median, the best and what they make
/// of `work`, which is per call.
void print_case(const std::string& name, const Timing& timing, double work, const std::string& unit,
                const io::Json& more, bool json);

}  // namespace qkv::cli
