// score = q . k, times 1 / sqrt(d_k) for the scaled form: unit-variance q and k of d_k features have dot
// products of variance d_k, and a softmax of numbers that large passes on hardly any gradient (Vaswani et al.
// 2017, section 3.2.1).

#include <cmath>

#include "qkv/attention/scores.h"

namespace qkv {
namespace {

class Dot final : public Score {
 public:
  std::string_view name() const override { return "dot"; }
  Pairing pairing(const HeadSizes& heads) const override {
    return {.kind = Pairing::Kind::kDot, .width = heads.d_k};
  }
};

class ScaledDot final : public Score {
 public:
  explicit ScaledDot(double scale) : scale_(scale) {}
  std::string_view name() const override { return "scaled_dot"; }
  Pairing pairing(const HeadSizes& heads) const override {
    const double usual = 1 / std::sqrt(static_cast<double>(heads.d_k));
    return {.kind = Pairing::Kind::kDot, .width = heads.d_k, .scale = scale_ != 0 ? scale_ : usual};
  }

 private:
  double scale_;
};

}  // namespace

ScorePtr dot() { return std::make_shared<Dot>(); }

ScorePtr scaled_dot(double scale) {
  QKV_CHECK(scale >= 0 && std::isfinite(scale), kValue,
            "scaled_dot: scale is {}, needs to be positive (0: 1 / sqrt(d_k))", scale);
  return std::make_shared<ScaledDot>(scale);
}

}  // namespace qkv
