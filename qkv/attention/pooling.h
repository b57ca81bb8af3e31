#pragma once
// The rows of each sequence as one vector, or a few. One pooling is one file in pooling/.
// docs/math/pooling.md has the formulae.
//
// What weighs rows is the attention op itself, asked by learnt queries: weights are a probe's to read, memory
// is linear, and gradients are there already.
//
// A sequence without rows gives zeros, whatever the pooling. What a sequence gets does not depend, bit for
// bit, on the rest of the batch nor on the number of threads; NaN stays in its sequence.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/attention/attention.h"
#include "qkv/nn/parameter_set.h"
#include "qkv/nn/pass.h"

namespace qkv {

/// Rows, and which of them are a sequence.
struct PackedRows {
  Var x;
  Segments segments;
};

struct PoolingConfig {
  int64_t d_model = 0;      // of the rows
  int64_t n_vectors = 1;    // that come of a sequence: hops of additive and structured, seeds of pma
  int64_t d_attention = 0;  // additive, structured: units of the perceptron; 0: d_model
  int64_t n_heads = 1;      // pma; divides d_model
  int64_t d_ff = 0;         // pma: units of its feed-forwards; 0: d_model
  double dropout = 0;       // additive, structured, pma: of attn_weights, while training
  std::string site;         // what a probe asks for; empty: the pooling's own name in the model
  int64_t layer = 0;
};

class Pooling {
 public:
  virtual ~Pooling() = default;

  /// x         [n_tokens, d_model]               f64 | f32 | bf16
  /// returns   [n_sequences, n_vectors * d_model], dtype of x: row b is sequence b's; vector m is columns
  /// m d_model .. (m + 1) d_model - 1. (So reshape(y, {n_sequences * n_vectors, d_model}) has them as rows.)
  ///
  /// `probe` gets the weights of poolings that have some: additive and structured give head m for vector m,
  /// at position 0; pma gives each head's for vector m at position m; mean gives 1 / length; first, last, max
  /// and class_token have none. Errors: kShape.
  Var operator()(Pass& pass, const Var& x, const Segments& rows, Probe* probe = nullptr) const;

  /// What goes into the encoder whose rows are pooled: a class token joins its sequences here. Others change
  /// nothing.
  virtual PackedRows prepare(const Var& x, const Segments& rows) const { return {x, rows}; }

  int64_t d_model() const { return d_model_; }
  int64_t d_out() const { return n_vectors_ * d_model_; }

 protected:
  /// Error kValue: sizes that are not positive; n_vectors other than 1 where the pooling gives one (`many`
  /// false).
  Pooling(std::string name, const PoolingConfig& config, bool many = false);
  const std::string& site() const { return site_; }

 private:
  virtual Var pool(Pass& pass, const Var& x, const Segments& rows, Probe* probe) const = 0;

  std::string name_, site_;
  int64_t d_model_, n_vectors_;
};
using PoolingPtr = std::shared_ptr<const Pooling>;

/// u_t = tanh(W h_t + b),  w_tm = exp(u_t . c_m) / sum_t' exp(u_t' . c_m),  s_m = sum_t w_tm h_t
///
/// With a bias and one context vector c: Yang et al. 2016, "Hierarchical Attention Networks for Document
/// Classification", NAACL, eq. 5-7. Without the bias and with several: Lin et al. 2017, arXiv:1703.03130, eq.
/// 5-6, A = softmax(W_s2 tanh(W_s1 H^T)), M = A H, whose W_s1 is W and whose W_s2 has rows c_m.
///
/// It is attention(0, W h + b, h) with the score `additive`, v_m . tanh(q + k): one query of zeros a
/// sequence, a head for each c_m, all heads sharing the keys and the values. Parameters <name>.proj.weight
/// [d_attention, d_model], <name>.proj.bias [d_attention], <name>.score.v [n_vectors, d_attention].
/// O(n_tokens d_attention (d_model + n_vectors)) time.
class AdditivePooling final : public Pooling {
 public:
  AdditivePooling(ParameterSet& set, const std::string& name, const PoolingConfig& config, bool bias);

  /// The vectors, and overlap_penalty() of their weights, [n_sequences, 1], which a loss may add. The penalty
  /// knows no dropout.
  struct WithPenalty {
    Var vectors, penalty;
  };
  WithPenalty with_penalty(Pass& pass, const Var& x, const Segments& rows, Probe* probe = nullptr) const;

 private:
  Var pool(Pass& pass, const Var& x, const Segments& rows, Probe* probe) const override;
  Var weigh(Pass& pass, const Var& keys, const Var& x, const Segments& rows, Probe* probe) const;

  AttentionOptions options_;
  double dropout_;
  ParameterPtr weight_, bias_;
};

/// ||A A^T - I||_F^2 for each sequence: how much its hops look at the same rows (Lin et al. 2017, eq. 8).
/// Column r of `scores`, over the rows of a sequence, becomes row r of A by a softmax.
///
///   scores   [n_tokens, n_hops]   f64 | f32 | bf16
///   returns  [n_sequences, 1]     dtype of scores; 0 for a sequence without rows
///
/// The paper's A is on no tape here (attention never stores its weights), so this has a backward of its own:
/// with E = A A^T - I, dA = 4 E A, and through the softmax dS_rt = a_rt (dA_rt - 4 (E A A^T)_rr). It keeps A,
/// and of each sequence n_hops x n_hops numbers: O(n_tokens n_hops^2) time. Sums are in f32 (f64 for f64); of
/// bf16 it takes scores that were rounded.
Var overlap_penalty(const Var& scores, const Segments& rows);

/// PMA_k(Z) = MAB(S, rFF(Z)) of k learnt seeds S, with MAB(X, Y) = LN(H + rFF(H)), H = LN(X + MultiHead(X, Y,
/// Y)), rFF a FeedForward with ReLU: Lee et al. 2019 (Set Transformer), arXiv:1810.00825, eq. 6, 7 and 11.
///
/// It is MultiHeadAttention whose queries are the seeds, for every sequence again. Parameters <name>.seeds
/// [n_vectors, d_model], <name>.memory_ff.{in,out}.*, <name>.attn.*, <name>.norm1.*, <name>.ff.{in,out}.*,
/// <name>.norm2.*. Seeds and biases would make something of no rows; here that is zeros, as everywhere.
PoolingPtr pma_pooling(ParameterSet& set, const std::string& name, const PoolingConfig& config);

/// A learnt row before those of each sequence, which the encoder fills with what it finds (Devlin et al.
/// 2019, arXiv:1810.04805, section 3: [CLS]): prepare() puts it there, and pooling takes it out. A sequence
/// without rows stays so. Parameter <name>.token [1, d_model]. Errors: kValue (a sequence with tokens in a
/// cache: the class token comes before them).
class ClassToken final : public Pooling {
 public:
  ClassToken(ParameterSet& set, const std::string& name, const PoolingConfig& config);
  PackedRows prepare(const Var& x, const Segments& rows) const override;
  /// The rows that prepare() was given, in what the encoder made of them: without the token's.
  static PackedRows without_token(const Var& x, const Segments& rows);

 private:
  Var pool(Pass& pass, const Var& x, const Segments& rows, Probe* probe) const override;
  ParameterPtr token_;
};

// These have no parameters, and take a set only so that all poolings are made alike.

/// The first row of each sequence.
PoolingPtr first_pooling(ParameterSet& set, const std::string& name, const PoolingConfig& config);
/// The last row of each sequence.
PoolingPtr last_pooling(ParameterSet& set, const std::string& name, const PoolingConfig& config);
/// The mean of the rows: attention with the score `uniform`.
PoolingPtr mean_pooling(ParameterSet& set, const std::string& name, const PoolingConfig& config);
/// The largest of each column. Its gradient goes to the first row that has it. NaN is larger than any number,
/// as in PyTorch. No attention: each column chooses for itself.
PoolingPtr max_pooling(ParameterSet& set, const std::string& name, const PoolingConfig& config);

/// By name: additive, structured (additive without the bias), pma, class_token, first, last, mean, max. Error
/// kValue for another name; it says which is nearest.
PoolingPtr make_pooling(std::string_view kind, ParameterSet& set, const std::string& name,
                        const PoolingConfig& config);
const std::vector<std::string_view>& pooling_names();

}  // namespace qkv
