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
/// of 1. 6 n d vocab operations, one exponential a logit; memory: 64 MiB of logits
/// (or 32 rows of them) and half as much of their gradient at most, an eighth of that up to 8,192 words.
CrossEntropy cross_entropy(const Var& hidden, const ParameterPtr& weight, const ParameterPtr& bias,
                           const std::vector<int32_t>& targets, double smoothing, double scale);

/// R-Drop (Liang et al., "R-Drop: Regularized Dropout for Neural Networks" (2021), arXiv:2106.14448, eq. 4):
/// the same rows through the model twice, with other dropout, are to give the same distributions P and Q. The
/// paper's loss, halved so that it is the mean cross-entropy where alpha is 0:
///   (CE(P) + CE(Q)) / 2 + alpha / 4 (KL(P || Q) + KL(Q || P))
/// loss and loss_sum are of that; nll_sum is the mean of the two. Divergences and their gradients
///   d KL(P || Q) / dz_P = P (log P / Q - KL(P || Q)),  d KL(Q || P) / dz_P = P - Q
/// need one row of logits of each pass at a time, so this runs on blocks of rows as cross_entropy does: twice
/// its memory and cost, and two more exponentials a logit. Arguments as there; alpha at least 0.
CrossEntropy r_drop(const Var& first, const Var& second, const ParameterPtr& weight, const ParameterPtr& bias,
                    const std::vector<int32_t>& targets, double smoothing, double alpha, double scale);

}  // namespace qkv
