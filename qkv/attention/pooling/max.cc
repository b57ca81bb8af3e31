#include <cmath>

#include "qkv/attention/pooling.h"
#include "qkv/attention/pooling/each_sequence.h"
#include "qkv/base/trace.h"

namespace qkv {
namespace {

// Which row of x [n, d] has the largest of each column: the first of equals, and NaN before any number.
template <class T>
void find_largest(const T* x, int64_t n, int64_t d, int32_t* row_of) {
  using A = accumulator_t<T>;
  std::fill(row_of, row_of + d, 0);
  for (int64_t t = 1; t < n; ++t)
    for (int64_t c = 0; c < d; ++c) {
      const A now = A(x[t * d + c]), best = A(x[row_of[c] * d + c]);
      if (now > best || (std::isnan(now) && !std::isnan(best))) row_of[c] = static_cast<int32_t>(t);
    }
}

class Max final : public Pooling {
 public:
  Max(const std::string& name, const PoolingConfig& config) : Pooling(name, config) {}

 private:
  Var pool(Pass&, const Var& x, const Segments& rows, Probe*) const override {
    const trace::Span span("max_pooling", trace::Kind::kOp);
    const int64_t d = d_model();
    const Tensor in = x.value().contiguous(), out = Tensor::zeros({rows.size(), d}, x.dtype()),
                 row_of = Tensor::empty({rows.size(), d}, DType::kI32);
    kernels::visit_dtype(x.dtype(), [&]<class T>(T) {
      each_sequence(rows, in.numel(), [&](int64_t b) {
        const T* from = in.data<T>() + rows.begin(b) * d;
        int32_t* chosen = row_of.data<int32_t>() + b * d;
        find_largest(from, rows.length(b), d, chosen);
        for (int64_t c = 0; c < d; ++c) out.data<T>()[b * d + c] = from[chosen[c] * d + c];
      });
    });
    return Var::result(out, x.requires_grad(), {x}, [=](const Tensor& grad) {
      const Tensor dy = grad.contiguous(), dx = Tensor::zeros(x.value().shape(), x.dtype());
      kernels::visit_dtype(x.dtype(), [&]<class T>(T) {
        each_sequence(rows, in.numel(), [&](int64_t b) {
          T* to = dx.data<T>() + rows.begin(b) * d;
          for (int64_t c = 0; c < d; ++c)
            to[row_of.data<int32_t>()[b * d + c] * d + c] = dy.data<T>()[b * d + c];
        });
      });
      x.add_grad(dx);
    });
  }
};

}  // namespace

PoolingPtr max_pooling(ParameterSet&, const std::string& name, const PoolingConfig& config) {
  return std::make_shared<Max>(name, config);
}

}  // namespace qkv
