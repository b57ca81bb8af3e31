#include "qkv/nn/positions.h"

#include <cmath>

namespace qkv {

Tensor sinusoidal_positions(int64_t max_len, int64_t d, DType dtype) {
  QKV_CHECK(d % 2 == 0, kValue, "sinusoidal positions: d_model {} is odd; each frequency takes two features",
            d);
  std::vector<double> values(static_cast<size_t>(max_len * d));
  const int64_t half = d / 2;
  for (int64_t p = 0; p < max_len; ++p)
    for (int64_t j = 0; j < half; ++j) {
      const double angle =
          static_cast<double>(p) * std::pow(10000.0, -2.0 * static_cast<double>(j) / static_cast<double>(d));
      values[p * d + j] = std::sin(angle);
      values[p * d + half + j] = std::cos(angle);
    }
  return Tensor::from({max_len, d}, values, dtype);
}

}  // namespace qkv
