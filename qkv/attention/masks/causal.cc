#include <algorithm>

#include "qkv/attention/masks.h"

namespace qkv {
namespace {

class Causal final : public Mask {
 public:
  void visible(const TilePlace& t, uint64_t* words) const noexcept override {
    for (int64_t r = 0; r < t.rows; ++r) words[r] = low_bits(t.i0 + r + 1 - t.j0);
  }
  Sight sight(const TilePlace& t) const noexcept override {
    if (t.j0 + t.cols <= t.i0 + 1) return Sight::kAll;
    return t.j0 >= t.i0 + t.rows ? Sight::kNone : Sight::kSome;
  }
  KeyRange visible_keys(int64_t /*batch*/, int64_t i0, int64_t rows, int64_t kv_len) const override {
    return {0, std::min(kv_len, i0 + rows)};
  }
};

}  // namespace

MaskPtr causal() {
  static const auto rule = std::make_shared<Causal>();
  return rule;
}

}  // namespace qkv
