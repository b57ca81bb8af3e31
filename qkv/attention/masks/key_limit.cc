#include <algorithm>
#include <utility>

#include "qkv/attention/masks.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

class KeyLimit final : public Mask {
 public:
  explicit KeyLimit(std::vector<int64_t> visible) : visible_(std::move(visible)) {}

  void visible(const TilePlace& t, uint64_t* words) const noexcept override {
    std::fill(words, words + t.rows, low_bits(limit(t.batch) - t.j0));
  }
  Sight sight(const TilePlace& t) const noexcept override {
    const int64_t shown = limit(t.batch) - t.j0;
    return shown <= 0 ? Sight::kNone : shown >= t.cols ? Sight::kAll : Sight::kSome;
  }
  KeyRange visible_keys(int64_t batch, int64_t /*i0*/, int64_t /*rows*/, int64_t kv_len) const override {
    return {0, std::min(kv_len, limit(batch))};
  }

 private:
  int64_t limit(int64_t batch) const noexcept {
    return batch < static_cast<int64_t>(visible_.size()) ? visible_[static_cast<size_t>(batch)] : 0;
  }

  std::vector<int64_t> visible_;
};

}  // namespace

MaskPtr key_limit(std::vector<int64_t> visible) {
  for (int64_t n : visible) QKV_CHECK(n >= 0, kValue, "key_limit: a limit of {} keys", n);
  return std::make_shared<KeyLimit>(std::move(visible));
}

}  // namespace qkv
