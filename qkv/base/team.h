#pragma once
// Threads that work in step: what each prepares for all is finished before anyone goes on to use it. One
// region with meetings costs a fraction of a region for every step.

#include <type_traits>

#include "qkv/base/parallel.h"

namespace qkv {

/// One thread's view of its team.
class Team {
 public:
  int64_t thread() const { return thread_; }
  int64_t size() const { return size_; }

  /// Returns when every thread of the team is here; what they wrote before is seen after.
  void meet() const noexcept {
    if (size_ == 1) return;
    detail::team_releases();
#pragma omp barrier
    detail::team_acquires();
  }

  /// body(begin, end) with this thread's piece of 0 .. n - 1, cut as parallel_for() cuts it.
  template <class Body>
  void share(int64_t n, int64_t grain, Body&& body) const {
    const int64_t pieces = (n + grain - 1) / grain;
    const int64_t begin = pieces * thread_ / size_ * grain,
                  end = std::min(n, pieces * (thread_ + 1) / size_ * grain);
    if (begin < end) body(begin, end);
  }

 private:
  Team(int64_t thread, int64_t size) : thread_(thread), size_(size) {}
  template <class Work>
  friend void in_step(int64_t most, Work&& work);

  int64_t thread_, size_;
};

/// work(team) on at most `most` threads; on one, inline, inside another parallel region. work must not throw:
/// the others would wait for it for ever.
template <class Work>
void in_step(int64_t most, Work&& work) {
  static_assert(std::is_nothrow_invocable_v<Work, const Team&>);
  const int64_t size = std::min<int64_t>(threads(), most);
  if (size <= 1 || omp_in_parallel()) return work(Team(0, 1));
  detail::in_team(size, [&](int64_t thread, int64_t count) { work(Team(thread, count)); });
}

}  // namespace qkv
