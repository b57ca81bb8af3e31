#include "qkv/train/optimizers/shampoo.h"

#include "qkv/train/optimizers/adam_step.h"

namespace qkv {
namespace {

constexpr int kNewtonSteps = 20;

double norm(const Tensor& x) { return std::sqrt(sum_squares(x)); }

// mean = beta mean + (1 - beta) scale^2 g g^T
void add_square(const Tensor& mean, double beta, double scale, const Tensor& g) {
  rescale(mean, beta);
  add_multiple(mean, (1 - beta) * scale * scale, product(g, g.transpose(0, 1)));
}

}  // namespace

Tensor inverse_fourth_root(const Tensor& a, double damping) {
  const int64_t n = a.size(0);
  Tensor m = a.clone(), x = Tensor::zeros({n, n}, a.dtype());
  kernels::visit_dtype(a.dtype(), [&]<class T>(T) {
    using A = accumulator_t<T>;
    T *at = m.data<T>(), *root = x.data<T>();
    double squares = 0;
    for (int64_t k = 0; k < n * n; ++k)
      squares += static_cast<double>(A(at[k])) * static_cast<double>(A(at[k]));
    const double length = std::sqrt(squares), z = squares > 0 ? 2.5 / ((1 + damping) * length) : 1;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j)
        at[i * n + j] =
            T(static_cast<A>(z * (static_cast<double>(A(at[i * n + j])) + (i == j ? damping * length : 0))));
      root[i * n + i] = T(static_cast<A>(std::pow(z, 0.25)));
    }
    if (squares == 0) return;
    for (int step = 0; step < kNewtonSteps; ++step) {
      const Tensor t = m.clone();
      each_piece(t, [&](int64_t begin, int64_t end) {
        T* to = t.data<T>();
        for (int64_t k = begin; k < end; ++k) to[k] = T((A(k / n == k % n ? 5 : 0) - A(to[k])) / 4);
      });
      const Tensor t2 = product(t, t);
      x = product(x, t);
      m = product(t2, product(t2, m));
    }
  });
  return x;
}

Shampoo::Shampoo(std::vector<ParameterPtr> parameters, const ShampooOptions& options, double clip_norm)
    : Optimizer(std::move(parameters), clip_norm), options_(options) {
  check_options("shampoo", options);
  for (size_t i = 0; i < this->parameters().size(); ++i) {
    const Shape& shape = this->parameters()[i]->value().shape();
    Memory memory;
    memory.first = add_state(i, "m", shape);
    memory.second = add_state(i, "v", shape);
    const auto side = [&](const char* mean, const char* root, int64_t n) -> Side {
      if (n < 2 || n > options.root_max_side) return {};
      const Tensor l = add_state(i, mean, {n, n}), p = add_state(i, root, {n, n});
      return {l, p};
    };
    if (is_matrix(shape)) {
      const int64_t columns = shape[shape.rank() - 1];
      memory.left = side("left", "left_root", shape.numel() / columns);
      memory.right = side("right", "right_root", columns);
    }
    memory_.push_back(memory);
  }
}

void Shampoo::refresh(const Side& side) const {
  if (side.mean.defined()) side.root.copy_from(inverse_fourth_root(side.mean, options_.root_damping));
}

void Shampoo::update(size_t i, const Update& u) {
  Parameter& p = *parameters()[i];
  const Memory& memory = memory_[i];
  const ShampooOptions& o = options_;
  kernels::AdamW k = adam_kernel(o.beta1, o.beta2, o.eps, u.rate, u.grad_scale, u.t);
  if (!memory.left.mean.defined() && !memory.right.mean.defined()) {
    k.decay = p.decays() ? static_cast<float>(o.weight_decay) : 0.0f;
    return adam_step(k, p.grad(), p.value(), memory.first, memory.second);
  }
  const Tensor step = adam_direction(k, p.grad(), memory.first, memory.second), g = as_matrix(p.grad());
  if (memory.left.mean.defined()) add_square(memory.left.mean, o.beta2, u.grad_scale, g);
  if (memory.right.mean.defined())
    add_square(memory.right.mean, o.beta2, u.grad_scale, g.transpose(0, 1).contiguous());
  if (u.t == 1 || u.t % o.root_every == 0) {
    refresh(memory.left);
    refresh(memory.right);
  }
  Tensor d = as_matrix(memory.first);
  if (memory.left.mean.defined()) d = product(memory.left.root, d);
  if (memory.right.mean.defined()) d = product(d, memory.right.root);
  const double length = norm(d), graft = length > 0 ? norm(step) / length : 0;
  if (p.decays() && o.weight_decay > 0) rescale(p.value(), 1 - u.rate * o.weight_decay);
  add_multiple(as_matrix(p.value()), -u.rate * graft, d);
}

}  // namespace qkv
