#include "qkv/train/optimizers/sgd.h"

#include "qkv/kernels/table.h"
#include "qkv/train/optimizers/arithmetic.h"

namespace qkv {

Sgd::Sgd(std::vector<ParameterPtr> parameters, const SgdOptions& options, double clip_norm)
    : Optimizer(std::move(parameters), clip_norm), options_(options) {
  check_options("sgd", options);
  QKV_CHECK(!options.nesterov || options.momentum > 0, kValue,
            "sgd: nesterov looks ahead along the momentum, which is 0");
  if (options.momentum > 0)
    for (size_t i = 0; i < this->parameters().size(); ++i)
      momenta_.push_back(add_state(i, "momentum", this->parameters()[i]->value().shape()));
}

void Sgd::update(size_t i, const Update& u) {
  Parameter& p = *parameters()[i];
  const kernels::Sgd k{.lr = static_cast<float>(u.rate),
                       .momentum = static_cast<float>(options_.momentum),
                       .decay = p.decays() ? static_cast<float>(options_.weight_decay) : 0.0f,
                       .grad_scale = static_cast<float>(u.grad_scale),
                       .nesterov = options_.nesterov};
  const float* g = p.grad().data<float>();
  float* w = p.value().data<float>();
  float* m = momenta_.empty() ? nullptr : momenta_[i].data<float>();
  each_piece(p.value(), [&](int64_t begin, int64_t end) {
    kernels::table().optimizer.sgd(end - begin, k, g + begin, w + begin, m == nullptr ? nullptr : m + begin);
  });
}

}  // namespace qkv
