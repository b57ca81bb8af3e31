#include "qkv/attention/pooling.h"

namespace qkv {
namespace {

class Mean final : public Pooling {
 public:
  Mean(const std::string& name, const PoolingConfig& c) : Pooling(name, c), layer_(c.layer) {}

 private:
  Var pool(Pass&, const Var& x, const Segments& rows, Probe* probe) const override {
    // The uniform score looks at neither side: constants, as narrow as they may be.
    const Var query(Tensor::zeros({rows.size(), 1}, x.dtype())),
        keys(Tensor::zeros({x.size(0), 1}, x.dtype()));
    return attention(query, keys, x, Segments(std::vector<int64_t>(static_cast<size_t>(rows.size()), 1)),
                     rows,
                     {.heads = {.n_heads = 1, .d_k = 1, .d_v = d_model()},
                      .score = uniform(),
                      .probe = probe,
                      .site = site(),
                      .layer = layer_});
  }

  int64_t layer_;
};

}  // namespace

PoolingPtr mean_pooling(ParameterSet&, const std::string& name, const PoolingConfig& config) {
  return std::make_shared<Mean>(name, config);
}

}  // namespace qkv
