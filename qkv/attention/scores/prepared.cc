#include <utility>

#include "qkv/attention/scores.h"

namespace qkv {
namespace {

class Prepared final : public Score {
 public:
  explicit Prepared(ScorePtr score) : score_(std::move(score)) {}
  std::string_view name() const override { return score_->name(); }
  Pairing pairing(const HeadSizes& heads) const override { return score_->pairing(heads); }
  std::vector<ParameterPtr> parameters() const override { return score_->parameters(); }

 private:
  ScorePtr score_;
};

}  // namespace

ScorePtr prepared(ScorePtr score) { return std::make_shared<Prepared>(std::move(score)); }

}  // namespace qkv
