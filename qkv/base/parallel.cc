#include "qkv/base/parallel.h"

#include <sched.h>

#include <charconv>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"

namespace qkv {
namespace {

int start_value() {
  const char* set = std::getenv("QKV_THREADS");
  const std::string_view text = set == nullptr ? "" : set;
  if (text.empty()) return std::max(1, omp_get_num_procs());
  int n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  QKV_CHECK(error == std::errc() && end == text.data() + text.size() && n >= 1 && n <= 4096, kValue,
            "QKV_THREADS: {} is not a number from 1 to 4096", quote(text));
  return n;
}

// The processors that the process may run on, as it was started.
const std::vector<int>& processors() {
  static const std::vector<int> all = [] {
    std::vector<int> found;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
      for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &set)) found.push_back(cpu);
    return found;
  }();
  return all;
}

constexpr int64_t kAnywhere = -1, kNotYet = -2;
thread_local int64_t place = kNotYet;

int& current() {
  static int n = start_value();
  return n;
}

}  // namespace

void detail::settle(int64_t thread, int64_t count) noexcept {
  const auto all = static_cast<int64_t>(processors().size());
  // A smaller team's threads stay where they are; a new thread has its place from the one that made it.
  const int64_t to = count == all ? thread : count < all && place != kNotYet ? place : kAnywhere;
  if (to == place) return;
  place = to;
  static const bool told = omp_get_proc_bind() != omp_proc_bind_false;
  if (told || all <= 1) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int64_t i = 0; i < all; ++i)
    if (to == kAnywhere || to == i) CPU_SET(processors()[static_cast<size_t>(i)], &set);
  (void)sched_setaffinity(0, sizeof(set), &set);  // it runs elsewhere then
}

int threads() { return current(); }
void set_threads(int n) { current() = n > 0 ? n : std::max(1, omp_get_num_procs()); }

}  // namespace qkv

#ifdef __SANITIZE_THREAD__
// libgomp hands a team the addresses of what it shares without telling ThreadSanitizer: reading them looks
// like a race.
extern "C" const char* __tsan_default_suppressions() { return "race_top:_omp_fn\n"; }
#endif
