#pragma once
// From scores to weights. One normalizer is one file in normalizers/.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "qkv/attention/heads.h"
#include "qkv/autograd/parameter.h"
#include "qkv/nn/parameter_set.h"

namespace qkv {

/// w = f(s) for the scores of one query of one head, -inf where a key is hidden. A hidden key has weight 0,
/// and a row whose keys are all hidden has weights of 0 alone.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual std::string_view name() const = 0;

  /// What the blocked paths need of it to go tile by tile; kNone: it needs whole rows, which kRows and
  /// kReference have.
  enum class Blockwise { kNone, kSoftmax, kSigmoid };
  virtual Blockwise blockwise() const { return Blockwise::kNone; }

  /// The definition, on whole rows. s [n] becomes w in place. Returns what kSoftmax divides by: the sum of
  /// exp(s - max), over the sink too; of others nobody asks.
  virtual double weights(int64_t head, int64_t n, double* s) const = 0;
  virtual float weights(int64_t head, int64_t n, float* s) const = 0;
  /// g [n] holds dL/dw, 0 where w is 0, and gets dL/ds; the gradient of parameter() is added to *gradient, of
  /// this head.
  virtual void backward(int64_t head, int64_t n, const double* w, double* g, double* gradient) const = 0;
  virtual void backward(int64_t head, int64_t n, const float* w, float* g, float* gradient) const = 0;

  /// Added to scores before the sigmoid, of kSigmoid.
  virtual double shift() const { return 0; }
  /// One trainable number a head, [n_heads, 1], or null: the sink of kSoftmax.
  virtual ParameterPtr parameter() const { return nullptr; }
};
using NormalizerPtr = std::shared_ptr<const Normalizer>;

/// w_j = exp(s_j) / sum_j' exp(s_j')     Bahdanau et al. 2015, arXiv:1409.0473, eq. 6
NormalizerPtr softmax_normalizer();
/// w_j = exp(s_j) / (exp(sink_h) + sum_j' exp(s_j')): a head may look at nothing. sink [n_heads, 1], from 0
/// (Miller, "Attention Is Off By One" (2023); as a learnt number a head in gpt-oss, 2025).
NormalizerPtr softmax_with_sink(ParameterSet& set, const std::string& prefix, const HeadSizes& heads);
/// The point of the simplex nearest to s: w = max(s - tau, 0), with exact zeros (Martins and Astudillo 2016,
/// arXiv:1602.02068). O(n log n) a row; needs whole rows.
NormalizerPtr sparsemax();
/// w = max(s / 2 - tau, 0)^2: between softmax and sparsemax (Peters et al. 2019, arXiv:1905.05702, alpha =
/// 1.5). O(n log n) a row; needs whole rows.
NormalizerPtr entmax15();
/// w_j = 1 / (1 + exp(-(s_j + shift))): keys do not compete. Ramapuram et al. 2024, arXiv:2409.04431, start
/// with a shift of -log(kv_len).
NormalizerPtr sigmoid(double shift = 0);

}  // namespace qkv
