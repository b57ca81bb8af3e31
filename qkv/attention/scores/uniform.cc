// score = 0: the softmax gives every visible key the same weight. A decoder that attends so cannot look at
// source positions; a single vector, the mean of the values, stands for the source.

#include "qkv/attention/scores.h"

namespace qkv {
namespace {

class Uniform final : public Score {
 public:
  std::string_view name() const override { return "uniform"; }
  Pairing pairing(const HeadSizes& heads) const override {
    return {.kind = Pairing::Kind::kUniform, .width = heads.d_k};
  }
};

}  // namespace

ScorePtr uniform() { return std::make_shared<Uniform>(); }

}  // namespace qkv
