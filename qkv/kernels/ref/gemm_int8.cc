// 8-bit products as they are defined: B packed is W as it came, [n, k].

#include "qkv/kernels/gemm_int8.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "qkv/kernels/ref/activation.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {
namespace {

int64_t packed_bytes(int64_t k, int64_t n) noexcept { return k * n; }

void pack_b(const PackInt8& args) noexcept {
  for (int64_t c = args.n_begin; c < args.n_end; ++c)
    std::copy_n(args.src + c * args.lds, args.k, static_cast<int8_t*>(args.dst) + c * args.k);
}

template <class T>
void run(const Int8Gemm<T>& g) noexcept {
  const int8_t* b = static_cast<const int8_t*>(g.b);
  for (int64_t i = 0; i < g.m; ++i)
    for (int64_t j = g.n_begin; j < g.n_end; ++j) {
      int32_t sum = 0;
      for (int64_t p = 0; p < g.k; ++p)
        sum += (int32_t{g.a[i * g.lda + p]} - g.a_zeros[i]) * int32_t{b[j * g.k + p]};
      float x = static_cast<float>(sum) * (g.a_scales[i] * g.b_scales[j]);
      if (g.bias) x += g.bias[j];
      x = ref::activate(g.activation, x);
      if (g.residual) x += static_cast<float>(g.residual[i * g.ldc + j]);
      g.c[i * g.ldc + j] = T(x);
    }
}

template <class T>
void quantise_rows(int64_t rows, int64_t k, const T* x, int64_t ldx, int8_t* q, int64_t ldq, float* scales,
                   int32_t* zeros) noexcept {
  for (int64_t r = 0; r < rows; ++r, x += ldx, q += ldq) {
    float low = 0, high = 0;
    bool finite = true;
    for (int64_t c = 0; c < k; ++c) {
      const float one = static_cast<float>(x[c]);
      finite = finite && std::isfinite(one);
      low = std::min(low, one);
      high = std::max(high, one);
    }
    const float largest = std::max(high, -low), step = zeros ? high / 255 - low / 255 : largest / 127;
    const bool counts = finite && largest >= kInt8Least;
    const float factor = counts ? 1 / step : 0;
    const float zero = counts && zeros ? std::nearbyint(-128 - low * factor) : 0;
    const float least = zeros ? -128 : -127;
    scales[r] = counts ? step : finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
    if (zeros) zeros[r] = static_cast<int32_t>(zero);
    for (int64_t c = 0; c < k; ++c)
      q[c] = counts ? static_cast<int8_t>(
                          std::clamp(std::nearbyint(static_cast<float>(x[c]) * factor) + zero, least, 127.0f))
                    : int8_t{0};
  }
}

int64_t peak(int64_t steps, const int8_t* numbers) noexcept {
  constexpr int64_t kSums = 16;
  int32_t sum[kSums] = {};
  int8_t b[kSums];
  std::copy_n(numbers, kSums, b);
  const int32_t a = numbers[kSums];
  for (int64_t s = 0; s < steps; ++s) {
    asm volatile("" : "+m"(b));  // the compiler would compute the products once
    for (int64_t j = 0; j < kSums; ++j) sum[j] += a * int32_t{b[j]};
  }
  asm volatile("" : : "r"(sum) : "memory");  // as if someone read the sums
  return 2 * steps * kSums;
}

template <class T>
Int8Kernels<T> kernels() {
  return {.block_m = 1,
          .block_n = 1,
          .packed_bytes = packed_bytes,
          .pack_b = pack_b,
          .run = run<T>,
          .quantise_rows = quantise_rows<T>,
          .peak = peak};
}

}  // namespace

void extend_gemm_int8_ref(Table& table) {
  table.f32.int8 = kernels<float>();
  table.bf16.int8 = kernels<bfloat16>();
}

}  // namespace qkv::kernels
