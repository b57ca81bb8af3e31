#include "qkv/attention/masks.h"

namespace qkv {
namespace {

class Causal final : public RuleFor<Causal> {
 public:
  KeyRange visible_keys(int64_t /*batch*/, int64_t i0, int64_t rows, int64_t kv_len) const override {
    return {0, std::min(kv_len, i0 + rows)};
  }
  bool only_masks() const override { return true; }

  template <class A>
  void edit(const ScoreTile<A>& t) const noexcept {
    for (int64_t r = 0; r < t.rows; ++r) {
      const int64_t first_hidden = std::max<int64_t>(0, t.i0 + r + 1 - t.j0);
      if (first_hidden < t.cols)
        std::fill(t.scores + r * t.stride + first_hidden, t.scores + r * t.stride + t.cols, A(kMasked));
    }
  }
};

}  // namespace

RulePtr causal() {
  static const auto rule = std::make_shared<Causal>();
  return rule;
}

}  // namespace qkv
