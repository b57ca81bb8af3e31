#include "qkv/base/parallel.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

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

int& current() {
  static int n = start_value();
  return n;
}

}  // namespace

int threads() { return current(); }
void set_threads(int n) { current() = n > 0 ? n : std::max(1, omp_get_num_procs()); }

}  // namespace qkv

#ifdef __SANITIZE_THREAD__
// libgomp hands a team the addresses of what it shares without telling ThreadSanitizer: reading them looks
// like a race.
extern "C" const char* __tsan_default_suppressions() { return "race_top:_omp_fn\n"; }
#endif
