#pragma once
// What the tests of the row kernels share: the families to visit, the widths, inputs, and buffers between
// guards.

#include <cstring>
#include <limits>
#include <vector>

#include "qkv/base/philox.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

inline constexpr double kInf = std::numeric_limits<double>::infinity();

inline std::vector<Isa> fast_families() {
  std::vector<Isa> out;
  for (Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAmx})
    if (isa <= best_isa()) out.push_back(isa);
  return out;
}

inline std::vector<Isa> all_families() {
  std::vector<Isa> out = fast_families();
  out.push_back(Isa::kRef);
  return out;
}

inline std::vector<int64_t> widths() {
  std::vector<int64_t> out;
  for (int64_t d = 1; d <= 70; ++d) out.push_back(d);
  for (int64_t d : {127, 128, 129, 255, 256, 257, 384, 1000, 4100}) out.push_back(d);
  return out;
}

template <class T>
constexpr double unit() {
  return sizeof(T) == 8 ? 0x1p-53 : sizeof(T) == 4 ? 0x1p-24 : 0x1p-8;
}

// n elements at an address that is a multiple of the element's size and of nothing more, between guards. The
// guards of an input are NaN, so that a lane that should not have been read shows in the result.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t n, int64_t shift = 1)
      : n_(n), begin_(kGuard + shift), all_(n + 2 * kGuard + shift) {
    for (T& x : all_) x = T(std::numeric_limits<float>::quiet_NaN());
    for (int64_t i = 0; i < n; ++i) data()[i] = T(0.0f);
    original_ = all_;
  }
  Buffer(const std::vector<double>& values, int64_t shift = 1)
      : Buffer(static_cast<int64_t>(values.size()), shift) {
    for (int64_t i = 0; i < n_; ++i) data()[i] = T(values[i]);
  }
  T* data() { return all_.data() + begin_; }
  const T* data() const { return all_.data() + begin_; }
  operator T*() { return data(); }
  std::vector<double> values() const { return {data(), data() + n_}; }
  bool guards_untouched() const {
    return std::memcmp(all_.data(), original_.data(), begin_ * sizeof(T)) == 0 &&
           std::memcmp(data() + n_, original_.data() + begin_ + n_, kGuard * sizeof(T)) == 0;
  }

 private:
  static constexpr int64_t kGuard = 64;
  int64_t n_, begin_;
  std::vector<T> all_, original_;
};

// What T makes of these numbers: the inputs that all three evaluations share.
template <class T>
std::vector<double> normals(int64_t n, uint32_t stream, double scale = 1, double shift = 0) {
  RandomStream random({.seed = 11, .stream = stream});
  std::vector<double> out(n);
  for (double& x : out) x = static_cast<double>(T(static_cast<float>(shift + scale * random.normal())));
  return out;
}

}  // namespace qkv::kernels
