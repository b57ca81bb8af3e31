#include <algorithm>
#include <utility>

#include "qkv/attention/masks.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

class Prefix final : public Mask {
 public:
  explicit Prefix(std::vector<int64_t> lengths) : lengths_(std::move(lengths)) {}

  void visible(const TilePlace& t, uint64_t* words) const noexcept override {
    for (int64_t r = 0; r < t.rows; ++r) words[r] = low_bits(end(t.batch, t.i0 + r) - t.j0);
  }
  Sight sight(const TilePlace& t) const noexcept override {
    if (t.j0 + t.cols <= end(t.batch, t.i0)) return Sight::kAll;
    return t.j0 >= end(t.batch, t.i0 + t.rows - 1) ? Sight::kNone : Sight::kSome;
  }
  KeyRange visible_keys(int64_t batch, int64_t i0, int64_t rows, int64_t kv_len) const override {
    return {0, std::min(kv_len, end(batch, i0 + rows - 1))};
  }

 private:
  /// One past the last key that query i sees.
  int64_t end(int64_t batch, int64_t i) const noexcept {
    const int64_t length =
        batch < static_cast<int64_t>(lengths_.size()) ? lengths_[static_cast<size_t>(batch)] : 0;
    return std::max(length, i + 1);
  }

  std::vector<int64_t> lengths_;
};

}  // namespace

MaskPtr prefix(std::vector<int64_t> lengths) {
  for (int64_t n : lengths) QKV_CHECK(n >= 0, kValue, "prefix: a length of {}", n);
  return std::make_shared<Prefix>(std::move(lengths));
}

}  // namespace qkv
