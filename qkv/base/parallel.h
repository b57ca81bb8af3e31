#pragma once
// Splitting work over the kernel threads (OpenMP). What is split is always the output, never a sum, so the
// result does not depend on the number of threads.

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>

#include "qkv/base/trace.h"

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

namespace qkv {

/// Threads that the next parallel_for uses; set_threads(0) means one per core. QKV_THREADS sets the start
/// value; Error kValue where that is no number from 1 to 4096.
int threads();
void set_threads(int n);

namespace detail {

constexpr int64_t kWorthAThread = 1 << 16;  // multiply-adds: a few microseconds, as a fork costs

// ThreadSanitizer cannot look into libgomp: these tell it that what a team does comes after what was done
// before it, and before what is done after it.
#ifdef __SANITIZE_THREAD__
inline char team_order;
inline void team_releases() { __tsan_release(&team_order); }
inline void team_acquires() { __tsan_acquire(&team_order); }
#else
inline void team_releases() {}
inline void team_acquires() {}
#endif

/// A call of its own, so that only the hand-over of a team's work is in the function that OpenMP makes of a
/// region: reports of that are false (parallel.cc).
template <class Share>
[[gnu::noinline]] void run_share(Share& share, const char* traced, std::exception_ptr& error,
                                 std::mutex& mutex) noexcept {
  team_acquires();
  try {
    const trace::Span span(traced, trace::Kind::kShare);
    share(int64_t{omp_get_thread_num()}, int64_t{omp_get_num_threads()});
  } catch (...) {
    const std::lock_guard lock(mutex);
    if (!error) error = std::current_exception();
  }
  team_releases();
}

/// share(thread, count) on each of at most `size` threads. The first exception is rethrown here.
template <class Share>
void in_team(int64_t size, Share&& share) {
  std::exception_ptr error;
  std::mutex mutex;
  const char* const traced = trace::innermost();
  team_releases();
#pragma omp parallel num_threads(static_cast <int>(size))
  run_share(share, traced, error, mutex);
  team_acquires();
  if (error) std::rethrow_exception(error);
}

}  // namespace detail

/// body(begin, end) over disjoint pieces of 0 .. n - 1, each a multiple of `grain` long except the last, one
/// contiguous piece a thread. Runs inline when there is one piece, or inside another parallel_for. The first
/// exception thrown by a piece is rethrown here.
template <class Body>
void parallel_for(int64_t n, int64_t grain, Body&& body) {
  if (n <= 0) return;
  const int64_t pieces = (n + grain - 1) / grain;
  const int64_t team = std::min<int64_t>(threads(), pieces);
  if (team <= 1 || omp_in_parallel()) return body(int64_t{0}, n);
  detail::in_team(team, [&](int64_t t, int64_t count) {
    const int64_t begin = pieces * t / count * grain, end = std::min(n, pieces * (t + 1) / count * grain);
    if (begin < end) body(begin, end);
  });
}

/// body(i) for i in 0 .. n - 1, handed out one at a time to whichever thread is free: for items of unequal
/// cost. The same promises as parallel_for; after an exception, items that were not begun may be left out.
/// work: of all items together, in multiply-adds, where it may be less than is worth a thread; they then run
/// inline.
template <class Body>
void parallel_items(int64_t n, Body&& body, int64_t work = detail::kWorthAThread) {
  const int64_t team = work < detail::kWorthAThread ? 1 : std::min<int64_t>(threads(), n);
  std::atomic<int64_t> next = 0;
  const auto share = [&](int64_t, int64_t) {
    for (int64_t i = next++; i < n; i = next++) body(i);
  };
  if (team <= 1 || omp_in_parallel()) return share(0, 1);
  detail::in_team(team, share);
}

}  // namespace qkv
