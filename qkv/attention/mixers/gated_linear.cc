// Gated linear attention: Yang et al. 2024, arXiv:2312.06635.

#include <algorithm>
#include <cmath>

#include "qkv/attention/mixers.h"
#include "qkv/base/parallel.h"

namespace qkv {
namespace {

class GatedLinearAttention final : public Mixer {
 public:
  std::string_view name() const override { return "gla"; }
  bool normalised() const override { return false; }
  bool forgets() const override { return true; }
  double scale(const HeadSizes& heads) const override {
    return 1 / std::sqrt(static_cast<double>(heads.d_k));
  }

  MixerParts prepare(const Var& q, const Var& k, const Segments& keys, const MixerOptions& options,
                     MixerState*) const override {
    const Var& log_decay = options.log_decay;
    const HeadSizes& heads = options.heads;
    QKV_CHECK(log_decay.defined() && log_decay.value().rank() == 2, kValue,
              "gla: needs log_decay, [n_tokens, n_kv_heads * d_k] or [n_tokens, n_kv_heads]");
    const Tensor& g = log_decay.value();
    QKV_CHECK(g.size(0) == keys.n_tokens() &&
                  (g.size(1) == heads.kv_heads() || g.size(1) == heads.kv_heads() * heads.d_k),
              kShape, "gla: log_decay is {}, needs [{}, {}], or [{}, {}] for each feature", g.shape().str(),
              keys.n_tokens(), heads.kv_heads(), keys.n_tokens(), heads.kv_heads() * heads.d_k);
    QKV_CHECK(g.dtype() == q.dtype(), kDtype, "gla: log_decay is {}, but q is {}", name_of(g),
              name_of(q.value()));
    const Tensor x = g.to(accumulator_dtype(q.dtype())).contiguous(),
                 decay = Tensor::empty(x.shape(), x.dtype());
    const auto exponentials = [&]<class A>(A) {
      const auto& kernels = (options.kernels ? *options.kernels : kernels::table()).of<A>().mixers;
      const A *from = x.data<A>(), *const end = from + x.numel();
      const A* above = std::find_if(from, end, [](A one) { return one > 0; });
      QKV_CHECK(above == end, kValue,
                "gla: a log decay of {} would grow the state without bound; it needs to be at most 0, as log "
                "sigmoid is",
                *above);
      parallel_for(x.numel(), 1 << 14, [&](int64_t begin, int64_t n) {
        kernels.exp_rows(1, n - begin, from + begin, 0, nullptr, decay.data<A>() + begin, 0);
      });
    };
    x.dtype() == DType::kF64 ? exponentials(double{}) : exponentials(float{});
    return {.q = q, .k = k, .decay = decay, .log_decay = log_decay};
  }

 private:
  static std::string_view name_of(const Tensor& x) { return qkv::name(x.dtype()); }
};

}  // namespace

MixerPtr gated_linear_attention() {
  static const MixerPtr one = std::make_shared<GatedLinearAttention>();
  return one;
}

}  // namespace qkv
