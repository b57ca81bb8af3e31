#include "qkv/train/optimizers/lamb.h"

#include "qkv/train/optimizers/adam_step.h"

namespace qkv {

Lamb::Lamb(std::vector<ParameterPtr> parameters, const LambOptions& options, double clip_norm)
    : Optimizer(std::move(parameters), clip_norm), options_(options) {
  check_options("lamb", options);
  for (size_t i = 0; i < this->parameters().size(); ++i) {
    const Shape& shape = this->parameters()[i]->value().shape();
    const Tensor m = add_state(i, "m", shape), v = add_state(i, "v", shape);
    moments_.push_back({m, v});
  }
}

void Lamb::update(size_t i, const Update& u) {
  Parameter& p = *parameters()[i];
  const Tensor r =
      adam_direction(adam_kernel(options_.beta1, options_.beta2, options_.eps, u.rate, u.grad_scale, u.t),
                     p.grad(), moments_[i].first, moments_[i].second);
  if (p.decays()) add_multiple(r, options_.weight_decay, p.value());
  const double w_norm = std::sqrt(sum_squares(p.value())), r_norm = std::sqrt(sum_squares(r));
  const double trust = w_norm > 0 && r_norm > 0 ? w_norm / r_norm : 1;
  add_multiple(p.value(), -u.rate * trust, r);
}

}  // namespace qkv
