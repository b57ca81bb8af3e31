// score = scale * cos(q, k). A vector divided by its root mean square has length sqrt(d_k), so the dot
// product of two such is d_k times their cosine.

#include <cmath>
#include <utility>

#include "qkv/attention/scores.h"
#include "qkv/attention/scores/head_norm.h"

namespace qkv {
namespace {

constexpr double kEps = 1e-12;  // a zero vector has cosine 0 with all

class Cosine final : public Score {
 public:
  Cosine(double scale, ParameterPtr ones) : scale_(scale), ones_(std::move(ones)) {}
  std::string_view name() const override { return "cosine"; }
  Pairing pairing(const HeadSizes& heads) const override {
    const double d_k = static_cast<double>(heads.d_k);
    return {.kind = Pairing::Kind::kDot,
            .width = heads.d_k,
            .scale = (scale_ != 0 ? scale_ : std::sqrt(d_k)) / d_k};
  }
  Var prepare_queries(const Var& q, const HeadSizes&) const override { return head_rms_norm(q, ones_, kEps); }
  Var prepare_keys(const Var& k, const HeadSizes&) const override { return head_rms_norm(k, ones_, kEps); }

 private:
  double scale_;
  ParameterPtr ones_;  // [d_k], not trained
};

}  // namespace

ScorePtr cosine(const HeadSizes& heads, DType parameters, double scale) {
  QKV_CHECK(scale >= 0 && std::isfinite(scale), kValue,
            "cosine: scale is {}, needs to be positive (0: sqrt(d_k))", scale);
  auto ones = std::make_shared<Parameter>("cosine.ones", Tensor::full({heads.d_k}, parameters, 1));
  ones->set_trainable(false);
  return std::make_shared<Cosine>(scale, std::move(ones));
}

}  // namespace qkv
