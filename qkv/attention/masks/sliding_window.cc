#include "qkv/attention/masks.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

class SlidingWindow final : public RuleFor<SlidingWindow> {
 public:
  explicit SlidingWindow(int64_t window) : window_(window) {}

  KeyRange visible_keys(int64_t /*batch*/, int64_t i0, int64_t rows, int64_t kv_len) const override {
    return {std::max<int64_t>(0, i0 - window_ + 1), std::min(kv_len, i0 + rows)};
  }
  bool only_masks() const override { return true; }

  template <class A>
  void edit(const ScoreTile<A>& t) const noexcept {
    for (int64_t r = 0; r < t.rows; ++r) {
      const int64_t i = t.i0 + r;
      for (int64_t c = 0; c < t.cols; ++c) {
        const int64_t j = t.j0 + c;
        if (j > i || j <= i - window_) t.scores[r * t.stride + c] = A(kMasked);
      }
    }
  }

 private:
  int64_t window_;
};

}  // namespace

RulePtr sliding_window(int64_t window) {
  QKV_CHECK(window >= 1, kValue, "sliding_window: window is {}, needs at least 1", window);
  return std::make_shared<SlidingWindow>(window);
}

}  // namespace qkv
