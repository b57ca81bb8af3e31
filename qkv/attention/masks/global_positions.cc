#include <algorithm>
#include <utility>

#include "qkv/attention/masks.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

class GlobalPositions final : public Mask {
 public:
  /// Ascending.
  explicit GlobalPositions(std::vector<int64_t> positions) : positions_(std::move(positions)) {}

  void visible(const TilePlace& t, uint64_t* words) const noexcept override {
    uint64_t keys = 0;
    for (auto at = from(t.j0); at != positions_.end() && *at < t.j0 + t.cols; ++at)
      keys |= uint64_t{1} << (*at - t.j0);
    std::fill(words, words + t.rows, keys);
    for (auto at = from(t.i0); at != positions_.end() && *at < t.i0 + t.rows; ++at)
      words[*at - t.i0] = ~uint64_t{0};
  }
  Sight sight(const TilePlace& t) const noexcept override {
    const auto met = [&](int64_t begin, int64_t n) {
      const auto at = from(begin);
      return at != positions_.end() && *at < begin + n;
    };
    return met(t.j0, t.cols) || met(t.i0, t.rows) ? Sight::kSome : Sight::kNone;
  }

 private:
  std::vector<int64_t>::const_iterator from(int64_t position) const noexcept {
    return std::lower_bound(positions_.begin(), positions_.end(), position);
  }

  std::vector<int64_t> positions_;
};

}  // namespace

MaskPtr global_positions(std::vector<int64_t> positions) {
  for (int64_t p : positions) QKV_CHECK(p >= 0, kValue, "global_positions: {} is not a position", p);
  std::sort(positions.begin(), positions.end());
  return std::make_shared<GlobalPositions>(std::move(positions));
}

}  // namespace qkv
