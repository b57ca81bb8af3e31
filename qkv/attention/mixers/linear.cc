// Linear attention: Katharopoulos et al. 2020, arXiv:2006.16236, eq. 7.

#include "qkv/attention/mixers.h"
#include "qkv/autograd/ops/elementwise.h"

namespace qkv {
namespace {

class LinearAttention final : public Mixer {
 public:
  std::string_view name() const override { return "linear"; }
  bool normalised() const override { return true; }
  MixerParts prepare(const Var& q, const Var& k, const Segments&, const MixerOptions&,
                     MixerState*) const override {
    constexpr auto kPhi = kernels::Activation::kEluPlusOne;
    return {.q = activate(q, kPhi), .k = activate(k, kPhi), .decay = {}, .log_decay = {}};
  }
};

}  // namespace

MixerPtr linear_attention() {
  static const MixerPtr one = std::make_shared<LinearAttention>();
  return one;
}

}  // namespace qkv
