#include <algorithm>
#include <utility>

#include "qkv/attention/masks.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

class BlockSparse final : public Mask {
 public:
  BlockSparse(int64_t block, std::vector<std::vector<bool>> shown)
      : block_(block), shown_(std::move(shown)) {}

  void visible(const TilePlace& t, uint64_t* words) const noexcept override {
    for (int64_t r = 0; r < t.rows; ++r) {
      const int64_t i = (t.i0 + r) / block_;
      if (r > 0 && i == (t.i0 + r - 1) / block_) {
        words[r] = words[r - 1];
        continue;
      }
      words[r] = 0;
      for (int64_t b = t.j0 / block_; b * block_ < t.j0 + t.cols; ++b)
        if (shows(i, b)) words[r] |= low_bits((b + 1) * block_ - t.j0) & ~low_bits(b * block_ - t.j0);
    }
  }
  Sight sight(const TilePlace& t) const noexcept override {
    bool some = false, all = true;
    for (int64_t i = t.i0 / block_; i * block_ < t.i0 + t.rows; ++i)
      for (int64_t b = t.j0 / block_; b * block_ < t.j0 + t.cols; ++b)
        shows(i, b) ? some = true : all = false;
    return all ? Sight::kAll : some ? Sight::kSome : Sight::kNone;
  }

 private:
  bool shows(int64_t i, int64_t j) const noexcept {
    if (i >= static_cast<int64_t>(shown_.size())) return false;
    const std::vector<bool>& row = shown_[static_cast<size_t>(i)];
    return j < static_cast<int64_t>(row.size()) && row[static_cast<size_t>(j)];
  }

  int64_t block_;
  std::vector<std::vector<bool>> shown_;  // [query block][key block]
};

}  // namespace

MaskPtr block_sparse(int64_t block, std::vector<std::vector<bool>> shown) {
  QKV_CHECK(block >= 1, kValue, "block_sparse: a block of {}, needs at least 1", block);
  for (const auto& row : shown)
    QKV_CHECK(row.size() == shown.front().size(), kShape, "block_sparse: rows of {} and {} blocks",
              shown.front().size(), row.size());
  return std::make_shared<BlockSparse>(block, std::move(shown));
}

}  // namespace qkv
