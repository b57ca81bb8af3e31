#include "qkv/train/optimizers/lion.h"

#include "qkv/kernels/table.h"
#include "qkv/train/optimizers/arithmetic.h"

namespace qkv {

Lion::Lion(std::vector<ParameterPtr> parameters, const LionOptions& options, double clip_norm)
    : Optimizer(std::move(parameters), clip_norm), options_(options) {
  check_options("lion", options);
  for (size_t i = 0; i < this->parameters().size(); ++i)
    momenta_.push_back(add_state(i, "m", this->parameters()[i]->value().shape()));
}

void Lion::update(size_t i, const Update& u) {
  Parameter& p = *parameters()[i];
  const kernels::Lion k{.lr = static_cast<float>(u.rate),
                        .beta1 = static_cast<float>(options_.beta1),
                        .beta2 = static_cast<float>(options_.beta2),
                        .decay = p.decays() ? static_cast<float>(options_.weight_decay) : 0.0f,
                        .grad_scale = static_cast<float>(u.grad_scale)};
  const float* g = p.grad().data<float>();
  float *w = p.value().data<float>(), *m = momenta_[i].data<float>();
  each_piece(p.value(), [&](int64_t begin, int64_t end) {
    kernels::table().optimizer.lion(end - begin, k, g + begin, w + begin, m + begin);
  });
}

}  // namespace qkv
