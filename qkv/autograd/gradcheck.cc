#include "qkv/autograd/gradcheck.h"

#include <cmath>

#include "qkv/base/philox.h"

namespace qkv {
namespace {

double weighted_sum(const Tensor& out, const Tensor& weights) {
  const std::vector<double> a = out.values(), w = weights.values();
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * w[i];
  return sum;
}

}  // namespace

Tensor random_tensor(const Shape& shape, uint64_t seed, DType dtype, double scale) {
  RandomStream random({.seed = seed, .stream = 0xc4ec});
  std::vector<double> values(static_cast<size_t>(shape.numel()));
  for (double& x : values) x = scale * random.normal();
  return Tensor::from(shape, values, dtype);
}

std::string gradcheck(const std::function<Var(const std::vector<Var>&)>& f, const std::vector<Tensor>& inputs,
                      const std::vector<ParameterPtr>& parameters, const GradcheckOptions& options) {
  std::vector<Var> vars;
  for (const Tensor& t : inputs) vars.emplace_back(t, true);
  for (const ParameterPtr& p : parameters) p->zero_grad();
  const Var out = f(vars);
  const Tensor weights = random_tensor(out.value().shape(), 99);
  backward(out, weights);

  const auto value = [&] {
    NoGrad off;
    return weighted_sum(f(vars).value(), weights);
  };
  // Each tensor with its gradient; `touched` tells whoever caches copies of it.
  const auto check = [&](const std::string& label, const Tensor& t, const std::vector<double>& got,
                         const std::function<void()>& touched) -> std::string {
    double* x = t.data<double>();
    for (int64_t i = 0; i < t.numel(); ++i) {
      const double before = x[i];
      x[i] = before + options.eps;
      touched();
      const double up = value();
      x[i] = before - options.eps;
      touched();
      const double down = value();
      x[i] = before;
      touched();
      const double expected = (up - down) / (2 * options.eps);
      if (!(std::abs(got[i] - expected) <= options.absolute + options.relative * std::abs(expected)))
        return fmt::format("{}: element {} of {}: gradient {}, finite difference {}", label, i,
                           t.shape().str(), got[i], expected);
    }
    return "";
  };
  for (size_t i = 0; i < vars.size(); ++i) {
    const std::vector<double> got =
        vars[i].grad().defined() ? vars[i].grad().values() : std::vector<double>(inputs[i].numel(), 0);
    if (std::string bad = check(fmt::format("input {}", i), inputs[i], got, [] {}); !bad.empty()) return bad;
  }
  for (const ParameterPtr& p : parameters)
    if (std::string bad = check(p->name(), p->value(), p->grad().values(), [&] { p->value_changed(); });
        !bad.empty())
      return bad;
  return "";
}

}  // namespace qkv
