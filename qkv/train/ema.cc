#include "qkv/train/ema.h"

#include <algorithm>

#include "qkv/kernels/table.h"
#include "qkv/train/optimizers/arithmetic.h"

namespace qkv {

WeightEma::WeightEma(std::vector<ParameterPtr> parameters, double decay)
    : parameters_(std::move(parameters)), decay_(decay) {
  QKV_CHECK(decay >= 0 && decay < 1, kValue, "ema_decay is {}, needs to be at least 0 and below 1", decay);
  for (const ParameterPtr& p : parameters_) tensors_.push_back({p->name(), p->value().clone()});
}

void WeightEma::step(int64_t t) {
  const double n = static_cast<double>(t);
  const auto share = static_cast<float>(1 - std::min(decay_, (1 + n) / (10 + n)));
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const float* w = parameters_[i]->value().data<float>();
    float* average = tensors_[i].value.data<float>();
    each_piece(tensors_[i].value, [&](int64_t begin, int64_t end) {
      kernels::table().optimizer.approach(end - begin, share, w + begin, average + begin);
    });
  }
}

void WeightEma::restart() {
  for (size_t i = 0; i < parameters_.size(); ++i) tensors_[i].value.copy_from(parameters_[i]->value());
}

void WeightEma::put_into_parameters() const {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    parameters_[i]->value().copy_from(tensors_[i].value);
    parameters_[i]->value_changed();
  }
}

}  // namespace qkv
