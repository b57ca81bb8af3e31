#include "qkv/attention/masks.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

class Strided final : public Mask {
 public:
  explicit Strided(int64_t stride) : stride_(stride) {}

  void visible(const TilePlace& t, uint64_t* words) const noexcept override {
    for (int64_t r = 0; r < t.rows; ++r) {
      words[r] = 0;
      for (int64_t c = first_column(t.i0 + r, t.j0); c < t.cols; c += stride_) words[r] |= uint64_t{1} << c;
    }
  }
  Sight sight(const TilePlace& t) const noexcept override {
    if (stride_ == 1) return Sight::kAll;
    // The rows' first columns are consecutive numbers modulo stride: 0 is among them soon.
    for (int64_t r = 0; r < t.rows; ++r)
      if (first_column(t.i0 + r, t.j0) < t.cols) return Sight::kSome;
    return Sight::kNone;
  }

 private:
  int64_t first_column(int64_t i, int64_t j0) const noexcept {
    return (((i - j0) % stride_) + stride_) % stride_;
  }
  int64_t stride_;
};

}  // namespace

MaskPtr strided(int64_t stride) {
  QKV_CHECK(stride >= 1 && stride < int64_t{1} << 31, kValue,
            "strided: stride is {}, needs to be from 1 to below 2^31", stride);
  return std::make_shared<Strided>(stride);
}

}  // namespace qkv
