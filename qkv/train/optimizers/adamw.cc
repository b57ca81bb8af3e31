#include "qkv/train/optimizers/adamw.h"

#include "qkv/train/optimizers/adam_step.h"

namespace qkv {

AdamW::AdamW(std::vector<ParameterPtr> parameters, const AdamWOptions& options, double clip_norm)
    : Optimizer(std::move(parameters), clip_norm), options_(options) {
  check_options("adamw", options);
  for (size_t i = 0; i < this->parameters().size(); ++i) {
    const Shape& shape = this->parameters()[i]->value().shape();
    const Tensor m = add_state(i, "m", shape), v = add_state(i, "v", shape);
    moments_.push_back({m, v});
  }
}

void AdamW::update(size_t i, const Update& u) {
  Parameter& p = *parameters()[i];
  kernels::AdamW k = adam_kernel(options_.beta1, options_.beta2, options_.eps, u.rate, u.grad_scale, u.t);
  k.decay = p.decays() ? static_cast<float>(options_.weight_decay) : 0.0f;
  adam_step(k, p.grad(), p.value(), moments_[i].first, moments_[i].second);
}

}  // namespace qkv
