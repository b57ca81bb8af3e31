#pragma once
// Hiding words for a masked language model.

#include <cstdint>
#include <vector>

#include "qkv/base/philox.h"
#include "qkv/train/row_range.h"

namespace qkv {

struct MaskingOptions {
  double share = 0.15;                // of a text's tokens that are to be predicted
  double masked = 0.8, random = 0.1;  // of those: hidden by [MASK], replaced by any word; the rest stay
  int32_t mask_id = 0;
  int64_t vocab_size = 0;
};

struct MaskedText {
  std::vector<int32_t> ids;    // as the model sees them
  std::vector<int64_t> rows;   // chosen, ascending
  std::vector<int32_t> words;  // what stood there
};

/// How many of n tokens are chosen: share * n to the nearest, but at least one of them.
int64_t n_chosen(int64_t n, double share);

/// texts: the rows of each that may be chosen, so without what frames it.
///
/// Devlin et al. 2018, section 3.1, task #1: "15 % of all WordPiece tokens in each sequence at random"; of
/// these 80 % become [MASK], 10 % a random token, 10 % stay (appendix A.1). Exactly n_chosen() of each text,
/// as in the authors' code. What becomes of a row is a function of (key, row): with a key for each step the
/// masks change from pass to pass (Liu et al. 2019, arXiv:1907.11692, section 4.1, "dynamic masking") and a
/// resumed run has the same.
MaskedText mask_words(std::vector<int32_t> ids, const std::vector<RowRange>& texts,
                      const MaskingOptions& options, const RandomKey& key);

}  // namespace qkv
