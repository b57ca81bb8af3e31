#include <utility>

#include "qkv/attention/masks.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

class KeyLimit final : public RuleFor<KeyLimit> {
 public:
  explicit KeyLimit(std::vector<int64_t> visible) : visible_(std::move(visible)) {}

  KeyRange visible_keys(int64_t batch, int64_t /*i0*/, int64_t /*rows*/, int64_t kv_len) const override {
    return {0, std::min(kv_len, limit(batch))};
  }
  bool only_masks() const override { return true; }

  template <class A>
  void edit(const ScoreTile<A>& t) const noexcept {
    const int64_t first_hidden = std::clamp<int64_t>(limit(t.batch) - t.j0, 0, t.cols);
    for (int64_t r = 0; r < t.rows; ++r)
      std::fill(t.scores + r * t.stride + first_hidden, t.scores + r * t.stride + t.cols, A(kMasked));
  }

 private:
  int64_t limit(int64_t batch) const noexcept {
    return batch < static_cast<int64_t>(visible_.size()) ? visible_[static_cast<size_t>(batch)] : 0;
  }

  std::vector<int64_t> visible_;
};

}  // namespace

RulePtr key_limit(std::vector<int64_t> visible) {
  for (int64_t n : visible) QKV_CHECK(n >= 0, kValue, "key_limit: a limit of {} keys", n);
  return std::make_shared<KeyLimit>(std::move(visible));
}

}  // namespace qkv
