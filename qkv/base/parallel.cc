#include "qkv/base/parallel.h"

#include <cstdlib>

namespace qkv {
namespace {

int start_value() {
  if (const char* text = std::getenv("QKV_THREADS")) {
    const int n = std::atoi(text);
    if (n > 0) return n;
  }
  return std::max(1, omp_get_num_procs());
}

int& current() {
  static int n = start_value();
  return n;
}

}  // namespace

int threads() { return current(); }
void set_threads(int n) { current() = n > 0 ? n : std::max(1, omp_get_num_procs()); }

}  // namespace qkv
