#include "qkv/train/optimizer.h"

#include <cmath>

#include "qkv/base/checked.h"
#include "qkv/base/parallel.h"
#include "qkv/kernels/table.h"

namespace qkv {
namespace {

constexpr int64_t kChunk = 16384;  // elements per partial sum of squares; fixed, so that the norm's bits are

}  // namespace

AdamW::AdamW(std::vector<ParameterPtr> parameters, const AdamWOptions& options)
    : parameters_(std::move(parameters)), options_(options) {
  const AdamWOptions& o = options;
  QKV_CHECK(o.beta1 >= 0 && o.beta1 < 1 && o.beta2 >= 0 && o.beta2 < 1 && o.eps > 0, kValue,
            "adam: beta1 ({}) and beta2 ({}) need to be at least 0 and below 1, eps ({}) above 0", o.beta1,
            o.beta2, o.eps);
  QKV_CHECK(o.weight_decay >= 0 && o.clip_norm >= 0, kValue,
            "adam: weight_decay ({}) and clip_norm ({}) must not be negative", o.weight_decay, o.clip_norm);
  for (const ParameterPtr& p : parameters_)
    moments_.push_back(
        {Tensor::zeros(p->value().shape(), DType::kF32), Tensor::zeros(p->value().shape(), DType::kF32)});
}

double AdamW::grad_norm() const {
  double total = 0;
  for (const ParameterPtr& p : parameters_) {
    const Tensor g = p->grad();
    const int64_t n = g.numel(), chunks = ceil_div(n, kChunk);
    std::vector<double> sums(static_cast<size_t>(chunks));
    const float* data = g.data<float>();
    parallel_for(chunks, 4, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c)
        sums[c] = kernels::table().optimizer.sum_squares(std::min(kChunk, n - c * kChunk), data + c * kChunk);
    });
    for (double s : sums) total += s;
  }
  return std::sqrt(total);
}

void AdamW::step(double rate, double norm) {
  ++steps_;
  const double t = static_cast<double>(steps_);
  kernels::AdamW k{.lr = static_cast<float>(rate),
                   .beta1 = static_cast<float>(options_.beta1),
                   .beta2 = static_cast<float>(options_.beta2),
                   .eps = static_cast<float>(options_.eps),
                   .decay = 0,
                   .bias1 = static_cast<float>(1 - std::pow(options_.beta1, t)),
                   .bias2 = static_cast<float>(1 - std::pow(options_.beta2, t)),
                   .grad_scale = 1};
  if (options_.clip_norm > 0 && norm > options_.clip_norm)
    k.grad_scale = static_cast<float>(options_.clip_norm / norm);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    Parameter& p = *parameters_[i];
    if (!p.trainable()) continue;
    k.decay = p.decays() ? static_cast<float>(options_.weight_decay) : 0.0f;
    const float* g = p.grad().data<float>();
    float* w = p.value().data<float>();
    float* m = moments_[i].first.data<float>();
    float* v = moments_[i].second.data<float>();
    parallel_for(p.value().numel(), 4096, [&](int64_t begin, int64_t end) {
      kernels::table().optimizer.adamw(end - begin, k, g + begin, w + begin, m + begin, v + begin);
    });
    p.value_changed();
  }
  zero_grad();
}

void AdamW::zero_grad() {
  for (const ParameterPtr& p : parameters_) p->zero_grad();
}

}  // namespace qkv
