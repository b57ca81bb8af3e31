#include "qkv/train/optimizers/arithmetic.h"

#include <vector>

#include "qkv/base/checked.h"
#include "qkv/kernels/table.h"

namespace qkv {
namespace {

constexpr int64_t kPiece = 16384;  // elements per partial sum; fixed, so that the sum's bits are

}  // namespace

double sum_squares(const Tensor& x) {
  const int64_t n = x.numel(), pieces = ceil_div(n, kPiece);
  std::vector<double> sums(static_cast<size_t>(pieces));
  const float* data = x.data<float>();
  parallel_for(pieces, 4, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      sums[c] = kernels::table().optimizer.sum_squares(std::min(kPiece, n - c * kPiece), data + c * kPiece);
  });
  double total = 0;
  for (double s : sums) total += s;
  return total;
}

void add_multiple(const Tensor& y, double factor, const Tensor& x) {
  each_piece(y, [&](int64_t begin, int64_t end) {
    kernels::table().optimizer.axpy(end - begin, static_cast<float>(factor), x.data<float>() + begin,
                                    y.data<float>() + begin);
  });
}

void rescale(const Tensor& x, double factor) {
  each_piece(x, [&](int64_t begin, int64_t end) {
    kernels::table().f32.rows.scale(end - begin, static_cast<float>(factor), x.data<float>() + begin,
                                    x.data<float>() + begin);
  });
}

Tensor product(const Tensor& a, const Tensor& b) {
  const Tensor out = Tensor::empty({a.size(0), b.size(1)}, a.dtype());
  matmul(a, pack_matrix(b, a.dtype()), out);
  return out;
}

Tensor as_matrix(const Tensor& t) { return t.reshape({t.numel() / t.size(-1), t.size(-1)}); }

bool is_matrix(const Shape& shape) {
  return shape.rank() >= 2 && shape[shape.rank() - 1] > 1 && shape.numel() > shape[shape.rank() - 1];
}

}  // namespace qkv
