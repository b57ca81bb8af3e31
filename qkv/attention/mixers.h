#pragma once
// Token mixers without a score matrix: each token adds to a state of fixed size and reads from it, so a text
// of n tokens costs O(n) and a running model keeps the same few numbers however long the text is.
// docs/math/mixers.md has the formulae and derives both passes; docs/adding/a-mixer.md adds one.

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "qkv/attention/heads.h"
#include "qkv/attention/probe.h"
#include "qkv/autograd/var.h"
#include "qkv/base/philox.h"
#include "qkv/base/segments.h"
#include "qkv/kernels/table.h"

namespace qkv {

class Mixer;
using MixerPtr = std::shared_ptr<const Mixer>;

struct MixerOptions {
  HeadSizes heads;
  MixerPtr mixer;      // null: linear_attention()
  bool causal = true;  // a query sees its own token and those before it; false: every key of its sequence
  /// Of gated_linear_attention() alone: the logs of the decays, none above 0. [n_kv_tokens, n_kv_heads *
  /// d_k], or [n_kv_tokens, n_kv_heads] where a head's features decay together. -infinity forgets all.
  Var log_decay;
  const kernels::Table* kernels = nullptr;  // null: the machine's; a test passes another family's
};

/// What a sequence keeps between calls: for each key/value head S [width, d_v] and z [width], the sums of
/// keys times values and of keys, decayed to the last token (f32, or f64 of a model in f64), and the
/// mixer's shift. Moved, not copied: two copies would add to the same sums.
class MixerState {
 public:
  /// The shift of a sequence that has met no key: below all exponents, and a finite number, for it is
  /// subtracted from.
  static constexpr double kNoShift = -1e30;

  MixerState() = default;
  /// Sequences that have met nothing yet.
  MixerState(int64_t n_sequences, const MixerOptions& options, DType dtype);
  MixerState(MixerState&&) = default;
  MixerState& operator=(MixerState&&) = default;

  /// Sequence r becomes a copy of what sequence parents[r] was; sequences that are nobody's parent are let
  /// go. Sums are copied only for a second child and later. Error kValue: a parent that is not there.
  void select(std::span<const int32_t> parents);

  int64_t size() const { return static_cast<int64_t>(sequences_.size()); }
  DType dtype() const { return dtype_; }  // of the model's activations
  int64_t n_bytes() const;

  /// Sums of a sequence's first head, the others after it, in the accumulator's type; and the shifts of its
  /// heads. What mixers and their engine work on.
  const Tensor& sums(int64_t sequence) const { return sequences_[static_cast<size_t>(sequence)].sums; }
  const Tensor& shifts(int64_t sequence) const { return sequences_[static_cast<size_t>(sequence)].shifts; }

 private:
  struct Sequence {
    Tensor sums;    // [n_kv_heads, width * (d_v + 1)]
    Tensor shifts;  // [n_kv_heads]
  };
  std::vector<Sequence> sequences_;
  DType dtype_ = DType::kF32;
};

/// Mixes packed sequences. With phi_q, phi_k the mixer's preparations and a_t its decays (in [0, 1], one for
/// each feature of a key, or 1), for each sequence and head
///
///   S_t = diag(a_t) S_{t-1} + phi_k(k_t) v_t^T        o_t = f_t phi_q(q_t) S_t
///   z_t = a_t z_{t-1} + phi_k(k_t)                    f_t = 1 / (phi_q(q_t) . z_t), or a constant
///
/// and without `causal` the sums run over all keys of the sequence: cross-attention, encoders.
///
///   q        [n_q_tokens,  n_heads * d_k]     f64 | f32 | bf16; rows may be strided
///   k        [n_kv_tokens, n_kv_heads * d_k]  dtype of q
///   v        [n_kv_tokens, n_kv_heads * d_v]  dtype of q
///   returns  [n_q_tokens,  n_heads * d_v]     dtype of q
///
/// Query head h reads the state of head h / (n_heads / n_kv_heads): states, decays and shifts belong to
/// key/value heads. Sequence b of `queries` meets sequence b of `keys`; causal, the two are of equal length
/// and row r sees rows 0 .. r. Positions do not enter; turn q and k beforehand (rope.h) where they should.
///
/// Computed in chunks of 64 tokens: pairs within a chunk by a matrix product, what is older through the
/// state. Sums and states are f32 (f64 for f64) and results are rounded once; products of bf16 read scores,
/// decayed keys and states in bf16. A query that has seen no key, and one whose denominator is below the
/// smallest normal number, yields zeros and has zero gradients; denominators are sums of positive numbers, so
/// nothing cancels in them. Decays are only ever multiplied: one that underflows is a key forgotten. A key
/// reaches no query that does not see it, NaN or not. What a sequence gets does not depend, bit for bit, on
/// the other sequences, on the number of threads, or, causal, on what comes later.
///
/// O(n width (64 + d_v)) time. Memory beside the result: O(width d_v) for each thread; backward keeps a state
/// for each chunk of the (sequence, head) in hand, n width d_v / 64 numbers. Threads share out (sequence,
/// key/value head) pairs.
///
/// Errors: kShape (also of what the mixer prepares), kDtype, kValue (head counts that do not divide, decays
/// above 1), kUnsupported (a mixer with decays that is not causal).
Var mix(const Var& q, const Var& k, const Var& v, const Segments& queries, const Segments& keys,
        const MixerOptions& options);

/// The same for a model that runs, without a tape: the sequences go on from `state` and leave theirs in it.
/// Without `causal` the keys given, perhaps none, are taken in first, and then the queries see all that the
/// state has met: an encoder's memory is taken in once.
///
/// A sequence that brings fewer than 8 tokens goes by the recurrence itself, a token at a time in f32; more
/// go by chunks. The two agree as roundings do: within 1e-12 in f64, 1e-5 in f32 and 2 % in bf16 of the
/// largest result, which the tests check for texts of 300 tokens. How many tokens another sequence brings
/// changes nothing. Errors: as mix(); kShape: a state of other sequences or sizes.
Tensor mix_cached(const Tensor& q, const Tensor& k, const Tensor& v, const Segments& queries,
                  const Segments& keys, MixerState& state, const MixerOptions& options);

/// Weights w_ij with out_i = sum_j w_ij v_j, of the heads, sequences and rows (positions) that the probe
/// names, appended to probe.rows (lse, site and layer are not set); of its top_k keys, where it has one.
/// Computed afresh in f64, O(kv_len width) a row. Of a normalised mixer they add up to 1, or are all 0;
/// others' may be of any sign and sum: heaviest then means greatest, and entropy is NaN with one below 0.
void implied_weights(const Var& q, const Var& k, const Segments& queries, const Segments& keys,
                     const MixerOptions& options, Probe& probe);

/// phi(x) = elu(x) + 1, normalised. Katharopoulos et al. 2020, "Transformers are RNNs", arXiv:2006.16236.
MixerPtr linear_attention();

/// Softmax attention in expectation, by positive orthogonal random features (FAVOR+), normalised:
///   phi(x)_r = exp(w_r . x' - |x'|^2 / 2), x' = x / d_k^(1/4),
/// with w_r normal vectors, orthogonal in groups of d_k, and E[phi(q) . phi(k)] = n_features exp(q . k /
/// sqrt(d_k)). Choromanski et al. 2021, arXiv:2009.14794, lemma 1 and section 2.4. The error falls as 1 /
/// sqrt(n_features) and grows fast with |q| and |k|. All heads share the w_r, which `key` alone determines;
/// n_features 0: d_k log d_k, rounded up to a multiple of 16.
///
/// Exponents are shifted so that none overflows. A query's own maximum cancels in the division. Keys are
/// measured from the greatest exponent so far, m_t, and what was summed before is multiplied by
/// exp(m_{t-1} - m_t): the shift is a decay. So it is causal, and no token knows of a later one.
/// Exponents and features are computed in f32 (f64 for f64). Error kValue: d_k below 1, n_features below 0,
/// or more than 2^28 numbers in the w_r.
MixerPtr performer(const HeadSizes& heads, int64_t n_features = 0, const RandomKey& key = {});

/// A fixed decay for each head, not normalised, scale 1 / sqrt(d_k). Sun et al. 2023, "Retentive Network",
/// arXiv:2307.08621, section 2. `decays`, in (0, 1], are those of key/value heads; empty: 1 - 2^(-5 - h).
/// The paper's rotation of q and k is rope.h, its group norm and gate belong to the layer around.
MixerPtr retention(std::vector<double> decays = {});

/// Decays that the data chooses (MixerOptions::log_decay), not normalised, scale 1 / sqrt(d_k). Yang et al.
/// 2024, "Gated Linear Attention", arXiv:2312.06635, section 4; with a decay for each head alone it
/// is Mamba-2's recurrence (Dao and Gu 2024, arXiv:2405.21060).
MixerPtr gated_linear_attention();

/// By name: linear, performer (of `key`), retention, gla. Error kValue for another name.
MixerPtr make_mixer(std::string_view name, const HeadSizes& heads, const RandomKey& key = {});
const std::vector<std::string_view>& mixer_names();

/// What a mixer makes of a call: prepared queries and keys, on the tape, and decays.
struct MixerParts {
  Var q, k;       // [n_q_tokens, n_heads * width], [n_kv_tokens, n_kv_heads * width]
  Tensor decay;   // undefined: none; else [n_kv_tokens, or 1 for all alike; n_kv_heads, or times width], of
                  // the accumulator's dtype
  Var log_decay;  // where its gradient goes, if anywhere: in the shape of `decay`
};

/// A mixer is a preparation of queries and keys, decays, and whether it is normalised. The engine
/// (mixers/chunked.cc) is one for all.
class Mixer {
 public:
  virtual ~Mixer() = default;
  virtual std::string_view name() const = 0;
  virtual bool normalised() const = 0;
  virtual bool forgets() const { return false; }  // by decays that mean something: only causal then
  virtual int64_t width(const HeadSizes& heads) const { return heads.d_k; }
  virtual double scale(const HeadSizes& /*heads*/) const { return 1; }  // f_t, where not normalised
  /// state: null, or the one whose sequences go on. What comes fits options.heads and `keys`: mix() checked.
  virtual MixerParts prepare(const Var& q, const Var& k, const Segments& keys, const MixerOptions& options,
                             MixerState* state) const = 0;
};

}  // namespace qkv
