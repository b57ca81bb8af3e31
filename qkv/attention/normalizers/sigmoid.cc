#include <cmath>

#include "qkv/attention/normalizers/normalizer_for.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

class Sigmoid final : public NormalizerFor<Sigmoid> {
 public:
  explicit Sigmoid(double shift) : shift_(shift) {}
  std::string_view name() const override { return "sigmoid"; }
  Blockwise blockwise() const override { return Blockwise::kSigmoid; }
  double shift() const override { return shift_; }

  template <class A>
  A row(int64_t /*head*/, int64_t n, A* s) const {
    for (int64_t j = 0; j < n; ++j) s[j] = 1 / (1 + std::exp(-(s[j] + A(shift_))));
    return 0;
  }
  template <class A>
  void row_backward(int64_t /*head*/, int64_t n, const A* w, A* g, A* /*gradient*/) const {
    for (int64_t j = 0; j < n; ++j) g[j] = w[j] != 0 ? w[j] * (1 - w[j]) * g[j] : A(0);
  }

 private:
  double shift_;
};

}  // namespace

NormalizerPtr sigmoid(double shift) {
  QKV_CHECK(std::isfinite(shift), kValue, "sigmoid: a shift of {}", shift);
  return std::make_shared<Sigmoid>(shift);
}

}  // namespace qkv
