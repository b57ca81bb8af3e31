#pragma once

#include <vector>

#include "qkv/autograd/parameter.h"
#include "qkv/autograd/var.h"

namespace qkv {

struct CrossEntropy {
  Var loss;             // [1]: sum over rows of the smoothed loss, times `scale`
  double loss_sum = 0;  // the same without `scale`, in double
  double nll_sum = 0;   // sum of -log p(target), unsmoothed: exp(nll_sum / n) is the perplexity
  int64_t n = 0;        // rows
};

/// Cross-entropy with label smoothing (Szegedy et al. 2016, arXiv:1512.00567, section 7) straight from hidden
/// states: the output layer logits = hidden W^T + bias, the softmax and their gradients run on blocks of
/// rows, so the [n, vocab] logits are never whole in memory.
///
///   hidden   [n, d]            f64 | f32 | bf16
///   weight   [vocab, d]        masters (may be the tied embedding)
///   bias     [vocab]           masters, or null
///   targets  n class numbers in 0 .. vocab - 1
///   scale    factor on the loss and so on all gradients: 1 / (number of target tokens of the whole step)
///
/// With gradients on, the gradients are computed in the same pass as the loss (dW and db are added to the
/// parameters' sums at once, dhidden waits for backward()), so the returned loss must be walked with a seed
/// of 1. 6 n d vocab operations, one exponential a logit; memory: kBlockBytes of logits.
CrossEntropy cross_entropy(const Var& hidden, const ParameterPtr& weight, const ParameterPtr& bias,
                           const std::vector<int32_t>& targets, double smoothing, double scale);

}  // namespace qkv
