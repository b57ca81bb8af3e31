#pragma once
// From the logits of a step to the few tokens of each row that a search looks at.

#include <cstdint>
#include <span>
#include <vector>

#include "qkv/decode/search_plan.h"
#include "qkv/decode/top_k.h"
#include "qkv/tensor/tensor.h"

namespace qkv::decode {

struct TokenScore {
  int32_t id;
  float log_prob;  // logits[id] - log sum exp(logits): over the whole vocabulary, whatever is banned
};

/// What each row may be continued with: its k likeliest tokens that do not end it, and how likely the end is.
///
/// This reads every logit of a search, so it is the search's whole cost beside the model: block maxima, the
/// sum of exponentials in the vector code of kernels::table(), and a look at some blocks again. 3.3 us for a
/// row of 10,000 on one core (AVX-512; 5.4 with AVX2): 0.25 s for 1,000 sentences of 15 tokens with beam 5.
/// Rows are split over the threads; what a row gets depends on that row alone.
class NextTokens {
 public:
  explicit NextTokens(int64_t k) : k_(k) {}

  /// Overwrites logits [rows, vocab_size]. Rows belong to sentences[r] and stand at `position`. A row whose
  /// position is forced offers that one token. Error kShape (logits are not as StepModel says), kNotFinite
  /// (a row holds NaN or infinity), kValue (nothing in it is allowed).
  void score(const SearchPlan& plan, int64_t position, std::span<const int32_t> sentences,
             const Tensor& logits);

  /// Likeliest first, equal ones by ascending id. May be fewer than k.
  std::span<const TokenScore> tokens(int64_t row) const {
    return std::span(tokens_).subspan(static_cast<size_t>(row * k_),
                                      static_cast<size_t>(counts_[static_cast<size_t>(row)]));
  }
  /// -infinity where the row may not end.
  float end_log_prob(int64_t row) const { return ends_[static_cast<size_t>(row)]; }

 private:
  void score_row(const SearchPlan& plan, int64_t position, int32_t sentence, int64_t row, int64_t vocab_size,
                 float* logits, RowScan& scan, RowScan::Entry* entries);

  int64_t k_;
  std::vector<TokenScore> tokens_;  // [rows, k]
  std::vector<int64_t> counts_;     // [rows]
  std::vector<float> ends_;         // [rows]
  std::vector<float> log_sums_;     // [rows] log of the sum of exp(logit - largest)
};

}  // namespace qkv::decode
