#pragma once
// From sentence pairs as ids to packed batches of about equal numbers of tokens.

#include <cstdint>
#include <vector>

#include "qkv/base/segments.h"

namespace qkv {

struct PairIds {
  std::vector<int32_t> source;  // with its end token
  std::vector<int32_t> target;  // with its end token, without the start token
};

struct BatchOptions {
  int64_t batch_tokens = 4096;  // target tokens of a batch, its end tokens counted; one pair is never cut
  int64_t max_length = 256;     // pairs with a longer side are left out
  int64_t bucket_batches =
      1;  // sentences of this many batches are sorted by length before they are cut; 1: not sorted.
          // Packed rows need no padding, so sorting buys no speed here; some recipes want it.
  uint64_t seed = 1;

  /// Error kValue: one of the first three is not in 1 .. 2^30.
  void check() const;
};

/// A packed batch: the rows of all its sentences back to back.
struct TranslationBatch {
  std::vector<int32_t> source;
  Segments source_segments;
  std::vector<int32_t> target_in, target_out;  // in: start token first; out: end token last
  Segments target_segments;
};

/// Which pairs are in which batch of an epoch: a function of the options and the epoch alone, so a resumed
/// run goes on with exactly the batches that were left.
class BatchPlan {
 public:
  /// Keeps a reference to `pairs`. Error kValue: no pair is short enough, or an option
  /// is not what it can be.
  BatchPlan(const std::vector<PairIds>& pairs, const BatchOptions& options);

  int64_t n_skipped() const { return skipped_; }  // pairs over max_length
  /// The batches of an epoch, in order; each is a list of pair indices.
  std::vector<std::vector<int32_t>> epoch(int64_t number) const;

 private:
  const std::vector<PairIds>& pairs_;
  BatchOptions options_;
  std::vector<int32_t> usable_;
  int64_t skipped_ = 0;
};

TranslationBatch pack_batch(const std::vector<PairIds>& pairs, const std::vector<int32_t>& indices,
                            int32_t start_id);

}  // namespace qkv
