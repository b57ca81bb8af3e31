#include "qkv/train/optimizers/adafactor.h"

#include <cmath>

#include "qkv/kernels/table.h"
#include "qkv/train/optimizers/arithmetic.h"

namespace qkv {
namespace {

double root_mean_square(const Tensor& x) {
  return std::sqrt(sum_squares(x) / static_cast<double>(std::max<int64_t>(1, x.numel())));
}

// mean = beta mean + (1 - beta) (new mean of squares + eps), in double, rounded once.
void blend(float& mean, double beta, double squares, double eps) {
  mean = static_cast<float>(beta * double{mean} + (1 - beta) * (squares + eps));
}

}  // namespace

Adafactor::Adafactor(std::vector<ParameterPtr> parameters, const AdafactorOptions& options, double clip_norm)
    : Optimizer(std::move(parameters), clip_norm), options_(options) {
  check_options("adafactor", options);
  for (size_t i = 0; i < this->parameters().size(); ++i) {
    const Shape& shape = this->parameters()[i]->value().shape();
    Memory memory;
    if (is_matrix(shape)) {
      const int64_t columns = shape[shape.rank() - 1];
      memory.rows = add_state(i, "rows", {shape.numel() / columns});
      memory.columns = add_state(i, "columns", {columns});
    } else {
      memory.second = add_state(i, "v", shape);
    }
    if (options.beta1 > 0) memory.first = add_state(i, "m", shape);
    memory_.push_back(memory);
  }
}

// g / sqrt(v), after the squares of g have entered the memory.
Tensor Adafactor::direction(const Memory& memory, const Tensor& g, double beta2, double grad_scale) const {
  const Tensor out = Tensor::empty(g.shape(), DType::kF32);
  const float* from = g.data<float>();
  float* to = out.data<float>();
  const double s2 = grad_scale * grad_scale;
  if (memory.second.defined()) {
    float* v = memory.second.data<float>();
    each_piece(g, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        blend(v[k], beta2, s2 * double{from[k]} * from[k], options_.eps1);
        to[k] = static_cast<float>(grad_scale * from[k] / std::sqrt(double{v[k]}));
      }
    });
    return out;
  }
  const int64_t rows = memory.rows.numel(), columns = memory.columns.numel();
  float *r = memory.rows.data<float>(), *c = memory.columns.data<float>();
  parallel_for(rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      blend(r[i], beta2,
            s2 * kernels::table().optimizer.sum_squares(columns, from + i * columns) /
                static_cast<double>(columns),
            options_.eps1);
  });
  parallel_for(columns, 64, [&](int64_t begin, int64_t end) {
    std::vector<double> sums(static_cast<size_t>(end - begin));
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = begin; j < end; ++j)
        sums[j - begin] += double{from[i * columns + j]} * from[i * columns + j];
    for (int64_t j = begin; j < end; ++j)
      blend(c[j], beta2, s2 * sums[j - begin] / static_cast<double>(rows), options_.eps1);
  });
  double mean = 0;
  for (int64_t i = 0; i < rows; ++i) mean += r[i];
  mean /= static_cast<double>(rows);
  // The root of an outer product is the outer product of roots: two short vectors, no root a weight.
  std::vector<float> by_column(static_cast<size_t>(columns));
  for (int64_t j = 0; j < columns; ++j) by_column[j] = static_cast<float>(1 / std::sqrt(double{c[j]}));
  parallel_for(rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto by_row = static_cast<float>(grad_scale / std::sqrt(r[i] / mean));
      for (int64_t j = 0; j < columns; ++j)
        to[i * columns + j] = by_row * from[i * columns + j] * by_column[j];
    }
  });
  return out;
}

void Adafactor::update(size_t i, const Update& u) {
  Parameter& p = *parameters()[i];
  const Memory& memory = memory_[i];
  const double beta2 = 1 - std::pow(static_cast<double>(u.t), -options_.beta2_decay);
  Tensor d = direction(memory, p.grad(), beta2, u.grad_scale);
  const double rate =
      options_.relative_step ? u.rate * std::max(options_.eps2, root_mean_square(p.value())) : u.rate;
  double scale = 1 / std::max(1.0, root_mean_square(d) / options_.clip_update);
  if (memory.first.defined()) {
    rescale(memory.first, options_.beta1);
    add_multiple(memory.first, (1 - options_.beta1) * scale, d);
    d = memory.first;
    scale = 1;
  }
  if (p.decays() && options_.weight_decay > 0) rescale(p.value(), 1 - rate * options_.weight_decay);
  add_multiple(p.value(), -rate * scale, d);
}

}  // namespace qkv
