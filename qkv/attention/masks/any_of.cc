#include <algorithm>
#include <utility>

#include "qkv/attention/masks.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

class AnyOf final : public Mask {
 public:
  explicit AnyOf(std::vector<MaskPtr> masks) : masks_(std::move(masks)) {}

  void visible(const TilePlace& t, uint64_t* words) const noexcept override {
    std::fill(words, words + t.rows, 0);
    uint64_t one[64];
    for (const MaskPtr& m : masks_) {
      m->visible(t, one);
      for (int64_t r = 0; r < t.rows; ++r) words[r] |= one[r];
    }
  }
  Sight sight(const TilePlace& t) const noexcept override {
    Sight most = Sight::kNone;
    for (const MaskPtr& m : masks_) most = std::max(most, m->sight(t));
    return most;
  }
  KeyRange visible_keys(int64_t batch, int64_t i0, int64_t rows, int64_t kv_len) const override {
    KeyRange hull{kv_len, 0};
    for (const MaskPtr& m : masks_) {
      const KeyRange one = m->visible_keys(batch, i0, rows, kv_len);
      if (one.begin < one.end) hull = {std::min(hull.begin, one.begin), std::max(hull.end, one.end)};
    }
    return hull;
  }

 private:
  std::vector<MaskPtr> masks_;
};

}  // namespace

MaskPtr any_of(std::vector<MaskPtr> masks) {
  QKV_CHECK(!masks.empty(), kValue, "any_of: no masks");
  for (size_t m = 0; m < masks.size(); ++m)
    QKV_CHECK(masks[m], kValue, "any_of: mask {} of {} is null", m, masks.size());
  return std::make_shared<AnyOf>(std::move(masks));
}

}  // namespace qkv
