#include <algorithm>
#include <cmath>

#include "qkv/attention/edits.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

class Temperature final : public EditFor<Temperature> {
 public:
  explicit Temperature(double temperature) : factor_(1 / temperature) {}
  bool passes_gradients() const override { return false; }
  bool backward_reads_scores() const override { return false; }

  template <class A>
  void edit(const ScoreTile<A>& t) const noexcept {
    scale(t, t.scores);
  }
  template <class A>
  void edit_backward(const ScoreTile<A>& t, A* ds, A* /*gradient*/) const noexcept {
    scale(t, ds);
  }

 private:
  template <class A>
  void scale(const ScoreTile<A>& t, A* x) const noexcept {
    A factors[64];
    std::fill(factors, factors + t.rows, A(factor_));
    t.kernels->scale_rows(t.rows, t.cols, factors, x, t.stride);
  }
  double factor_;
};

}  // namespace

EditPtr temperature(double temperature) {
  QKV_CHECK(temperature >= 1e-6 && temperature <= 1e6, kValue, "temperature: is {}, needs to be 1e-6 to 1e6",
            temperature);
  return std::make_shared<Temperature>(temperature);
}

}  // namespace qkv
