// Retention: Sun et al. 2023, arXiv:2307.08621.

#include <cmath>
#include <utility>

#include "qkv/attention/mixers.h"

namespace qkv {
namespace {

class Retention final : public Mixer {
 public:
  explicit Retention(std::vector<double> decays) : decays_(std::move(decays)) {}
  std::string_view name() const override { return "retention"; }
  bool normalised() const override { return false; }
  bool forgets() const override { return true; }
  double scale(const HeadSizes& heads) const override {
    return 1 / std::sqrt(static_cast<double>(heads.d_k));
  }

  MixerParts prepare(const Var& q, const Var& k, const Segments&, const MixerOptions& options,
                     MixerState*) const override {
    const int64_t heads = options.heads.kv_heads();
    std::vector<double> decays = decays_;
    for (int64_t h = 0; decays_.empty() && h < heads; ++h)
      decays.push_back(1 - std::exp2(-5.0 - static_cast<double>(h)));  // section 2.2
    QKV_CHECK(static_cast<int64_t>(decays.size()) == heads, kShape,
              "retention: {} decays, needs one for each of {} key/value heads", decays.size(), heads);
    return {.q = q,
            .k = k,
            .decay = Tensor::from({1, heads}, decays, accumulator_dtype(q.dtype())),
            .log_decay = {}};
  }

 private:
  std::vector<double> decays_;
};

}  // namespace

MixerPtr retention(std::vector<double> decays) {
  for (double decay : decays)
    QKV_CHECK(decay > 0 && decay <= 1, kValue, "retention: a decay of {}, needs to be above 0 and at most 1",
              decay);
  return std::make_shared<Retention>(std::move(decays));
}

}  // namespace qkv
