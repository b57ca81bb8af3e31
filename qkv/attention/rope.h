#pragma once
// Rotary position embedding: Su et al., "RoFormer" (2021), arXiv:2104.09864. Queries and keys are turned by
// angles that grow with their positions, pair of features by pair, so that their dot products depend on the
// distance alone.

#include <cstdint>
#include <vector>

#include "qkv/attention/heads.h"
#include "qkv/autograd/var.h"
#include "qkv/base/segments.h"

namespace qkv {

/// How the frequencies are changed for texts longer than those trained on.
struct RopeScaling {
  enum class Kind {
    kNone,
    kLinear,  // f / factor: positions squeezed (Chen et al. 2023, arXiv:2306.15595)
    kNtk,     // base * factor^(d / (d - 2)): fast pairs stay, slow ones are squeezed (bloc97 2023)
    kYarn,    // both, by how often a pair turns in original_max_len positions; and scores sharpened (Peng et
              // al. 2023, arXiv:2309.00071)
    kLlama3,  // by wavelength: short ones stay, long ones / factor, a ramp between (Llama 3.1, 2024)
  };
  Kind kind = Kind::kNone;
  double factor = 1;
  int64_t original_max_len = 0;                      // of kYarn, kLlama3
  double beta_fast = 32, beta_slow = 1;              // of kYarn: turns
  double attention_factor = 0;                       // of kYarn: on queries and keys; 0: 0.1 ln(factor) + 1
  double low_freq_factor = 1, high_freq_factor = 4;  // of kLlama3
};

struct RopeOptions {
  double base = 10000;
  int64_t rotary_dims = 0;  // of each head, from the first on; 0: all of d_k
  bool interleaved =
      false;  // pairs (0, 1), (2, 3), ... as in the paper; else (0, n/2), (1, n/2 + 1), ... as Llama's
  RopeScaling scaling;
};

/// With f_p the frequency of pair p (base^(-2p/n) for n rotary dims) and t a token's position:
///   (x, y) -> (x cos t f_p - y sin t f_p, x sin t f_p + y cos t f_p), times the attention factor of kYarn.
class Rope {
 public:
  /// Errors: kValue: rotary_dims odd or beyond d_k; a base, factor, length or number of turns
  /// that makes no sense.
  Rope(int64_t d_k, const RopeOptions& options);

  /// x [n_tokens, n_heads * d_k], f64 | f32 | bf16 -> same shape, computed in the accumulator's type. Row r
  /// of sequence b has position past(b) + r. Error kShape. O(n_tokens * (n_heads * d_k + rotary_dims)).
  Var operator()(const Var& x, const Segments& positions, int64_t n_heads) const;

  const std::vector<double>& frequencies() const { return frequencies_; }  // [rotary_dims / 2]
  double attention_factor() const { return attention_factor_; }

 private:
  Tensor turned(const Tensor& x, const Segments& positions, int64_t n_heads, bool back) const;

  int64_t d_k_, rotary_dims_;
  bool interleaved_;
  std::vector<double> frequencies_;
  double attention_factor_ = 1;
};

}  // namespace qkv
