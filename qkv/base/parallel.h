#pragma once
// Splitting work over the kernel threads (OpenMP). What is split is always the output, never a sum, so the
// result does not depend on the number of threads.

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <exception>

namespace qkv {

/// Threads that the next parallel_for uses; set_threads(0) means one per core. QKV_THREADS sets the start
/// value; Error kValue where that is no number from 1 to 4096.
int threads();
void set_threads(int n);

/// body(begin, end) over disjoint pieces of 0 .. n - 1, each a multiple of `grain` long except the last, one
/// contiguous piece a thread. Runs inline when there is one piece, or inside another parallel_for. The first
/// exception thrown by a piece is rethrown here.
template <class Body>
void parallel_for(int64_t n, int64_t grain, Body&& body) {
  if (n <= 0) return;
  const int64_t pieces = (n + grain - 1) / grain;
  const int64_t team = std::min<int64_t>(threads(), pieces);
  if (team <= 1 || omp_in_parallel()) {
    body(int64_t{0}, n);
    return;
  }
  std::exception_ptr error;
#pragma omp parallel num_threads(static_cast <int>(team))
  {
    const int64_t t = omp_get_thread_num(), count = omp_get_num_threads();
    const int64_t begin = pieces * t / count * grain, end = std::min(n, pieces * (t + 1) / count * grain);
    try {
      if (begin < end) body(begin, end);
    } catch (...) {
#pragma omp critical(qkv_parallel_error)
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

/// body(i) for i in 0 .. n - 1, handed out one at a time to whichever thread is free: for items of unequal
/// cost. The same promises as parallel_for.
template <class Body>
void parallel_items(int64_t n, Body&& body) {
  const int64_t team = std::min<int64_t>(threads(), n);
  if (team <= 1 || omp_in_parallel()) {
    for (int64_t i = 0; i < n; ++i) body(i);
    return;
  }
  std::exception_ptr error;
#pragma omp parallel for schedule(dynamic, 1) num_threads(static_cast <int>(team))
  for (int64_t i = 0; i < n; ++i) {
    try {
      body(i);
    } catch (...) {
#pragma omp critical(qkv_parallel_error)
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace qkv
