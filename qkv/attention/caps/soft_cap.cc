#include <cmath>

#include "qkv/attention/edits.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

class SoftCap final : public EditFor<SoftCap> {
 public:
  explicit SoftCap(double cap) : cap_(cap) {}
  bool passes_gradients() const override { return false; }

  template <class A>
  void edit(const ScoreTile<A>& t) const noexcept {
    t.kernels->soft_cap(t.rows, t.cols, A(cap_), t.scores, t.stride);
  }
  template <class A>
  void edit_backward(const ScoreTile<A>& t, A* ds, A* /*gradient*/) const noexcept {
    t.kernels->soft_cap_backward(t.rows, t.cols, A(cap_), t.scores, ds, t.stride);
  }

 private:
  double cap_;
};

}  // namespace

EditPtr soft_cap(double cap) {
  QKV_CHECK(cap >= 1e-6 && cap <= 1e6, kValue, "soft_cap: cap is {}, needs to be 1e-6 to 1e6", cap);
  return std::make_shared<SoftCap>(cap);
}

}  // namespace qkv
