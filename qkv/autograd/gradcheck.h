#pragma once
// Gradients against finite differences in float64, with the defaults of torch.autograd.gradcheck.

#include <functional>
#include <string>
#include <vector>

#include "qkv/autograd/parameter.h"
#include "qkv/autograd/var.h"

namespace qkv {

struct GradcheckOptions {
  double eps = 1e-6, absolute = 1e-5, relative = 1e-3;
};

/// Checks d(sum of weights * f(inputs)) for fixed pseudo-random weights, at every element of every input and
/// parameter, by central differences. All tensors are f64. Returns "" or the first disagreement: which
/// tensor, which element, both values. `f` is called afresh each time and must be a function of the inputs'
/// and parameters' values alone.
std::string gradcheck(const std::function<Var(const std::vector<Var>&)>& f, const std::vector<Tensor>& inputs,
                      const std::vector<ParameterPtr>& parameters = {}, const GradcheckOptions& options = {});

/// Pseudo-random normal values for such tests.
Tensor random_tensor(const Shape& shape, uint64_t seed, DType dtype = DType::kF64, double scale = 1);

}  // namespace qkv
