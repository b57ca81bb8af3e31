#include "qkv/train/optimizers/muon.h"

#include "qkv/train/optimizers/adam_step.h"

namespace qkv {

Tensor orthogonal(const Tensor& g, int64_t iterations) {
  const bool tall = g.size(0) > g.size(1);
  Tensor x = tall ? g.transpose(0, 1).clone() : g.clone();
  rescale(x, 1 / (std::sqrt(sum_squares(x)) + 1e-7));
  for (int64_t k = 0; k < iterations; ++k) {
    const Tensor a = product(x, x.transpose(0, 1));
    const Tensor b = product(a, a);
    rescale(b, 2.0315);
    add_multiple(b, -4.7750, a);
    const Tensor next = x.clone();
    rescale(next, 3.4445);
    matmul(b, pack_matrix(x, DType::kF32), next, {.accumulate = true});
    x = next;
  }
  return tall ? x.transpose(0, 1).contiguous() : x;
}

Muon::Muon(std::vector<ParameterPtr> parameters, const MuonOptions& options, double clip_norm)
    : Optimizer(std::move(parameters), clip_norm), options_(options) {
  check_options("muon", options);
  QKV_CHECK(!options.nesterov || options.momentum > 0, kValue,
            "muon: nesterov looks ahead along the momentum, which is 0");
  for (size_t i = 0; i < this->parameters().size(); ++i) {
    const Parameter& p = *this->parameters()[i];
    const Shape& shape = p.value().shape();
    Memory memory;
    if (shape.rank() == 2 && is_matrix(shape) && !p.is_table()) {
      memory.momentum = add_state(i, "momentum", shape);
    } else {
      memory.first = add_state(i, "m", shape);
      memory.second = add_state(i, "v", shape);
    }
    memory_.push_back(memory);
  }
}

void Muon::update(size_t i, const Update& u) {
  Parameter& p = *parameters()[i];
  const Memory& memory = memory_[i];
  const double decay = p.decays() ? options_.weight_decay : 0;
  if (!memory.momentum.defined()) {
    kernels::AdamW k = adam_kernel(options_.beta1, options_.beta2, options_.eps, options_.adam_rate * u.rate,
                                   u.grad_scale, u.t);
    k.decay = static_cast<float>(decay);
    return adam_step(k, p.grad(), p.value(), memory.first, memory.second);
  }
  rescale(memory.momentum, options_.momentum);
  add_multiple(memory.momentum, u.grad_scale, p.grad());
  Tensor direction = memory.momentum;
  if (options_.nesterov) {
    direction = p.grad().clone();
    rescale(direction, u.grad_scale);
    add_multiple(direction, options_.momentum, memory.momentum);
  }
  const Tensor o = orthogonal(direction, options_.newton_steps);
  const double rows = static_cast<double>(o.size(0)), columns = static_cast<double>(o.size(1));
  if (decay > 0) rescale(p.value(), 1 - u.rate * decay);
  add_multiple(p.value(), -u.rate * std::sqrt(std::max(1.0, rows / columns)), o);
}

}  // namespace qkv
