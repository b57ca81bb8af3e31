#include <algorithm>

#include "qkv/attention/masks.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

class SlidingWindow final : public Mask {
 public:
  explicit SlidingWindow(const Window& w)
      : back_((w.back - 1) * w.dilation), ahead_(w.ahead * w.dilation), dilation_(w.dilation) {}

  void visible(const TilePlace& t, uint64_t* words) const noexcept override {
    for (int64_t r = 0; r < t.rows; ++r) {
      const int64_t own = t.i0 + r - t.j0;  // the column of the query's own key
      words[r] = low_bits(own + ahead_ + 1) & ~low_bits(own - back_);
      if (dilation_ == 1) continue;
      uint64_t steps = 0;
      for (int64_t c = ((own % dilation_) + dilation_) % dilation_; c < t.cols; c += dilation_)
        steps |= uint64_t{1} << c;
      words[r] &= steps;
    }
  }
  Sight sight(const TilePlace& t) const noexcept override {
    const int64_t first = t.i0 - back_, last = t.i0 + t.rows - 1 + ahead_;  // of any query
    if (t.j0 > last || t.j0 + t.cols <= first) return Sight::kNone;
    const bool all =
        dilation_ == 1 && t.i0 + t.rows - 1 - back_ <= t.j0 && t.j0 + t.cols <= t.i0 + ahead_ + 1;
    return all ? Sight::kAll : Sight::kSome;
  }
  KeyRange visible_keys(int64_t /*batch*/, int64_t i0, int64_t rows, int64_t kv_len) const override {
    return {std::max<int64_t>(0, i0 - back_), std::min(kv_len, i0 + rows + ahead_)};
  }

 private:
  int64_t back_, ahead_;  // distances of the farthest keys
  int64_t dilation_;
};

}  // namespace

MaskPtr sliding_window(const Window& w) {
  constexpr int64_t kFar = int64_t{1} << 31;
  QKV_CHECK(
      w.back >= 1 && w.ahead >= 0 && w.dilation >= 1 && w.back < kFar && w.ahead < kFar && w.dilation < kFar,
      kValue, "sliding_window: back {}, ahead {}, dilation {}: needs at least 1, 0, 1 and below 2^31", w.back,
      w.ahead, w.dilation);
  return std::make_shared<SlidingWindow>(w);
}

}  // namespace qkv
