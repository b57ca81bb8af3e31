#pragma once
// Which source word does a target word come from? What cross-attention has to say about it.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "qkv/explain/words.h"
#include "qkv/tensor/tensor.h"

namespace qkv::explain {

/// Attention between tokens into attention between words:
///
///     out(w, v) = mean over target tokens t of w of  sum over source tokens s of v of  weights(t, s)
///
/// A word is looked at by as much as its pieces together, and looks as its pieces do on average (Clark et al.
/// 2019, arXiv:1906.04341, section 4.1): rows that summed to 1 still do.
///
///   weights  [tgt_len, src_len] f32, e.g. decode::Hypothesis::attention
///   returns  [n target words, n source words] f32
///
/// Tokens without a word (eos) have no row and no column. A model often rests its eyes on the source's eos
/// when it has nothing to look for; that weight is missing from the rows, which then sum to less than 1: what
/// is left of a row is what it spent on words. `renormalize` scales each row to sum 1 again (a row of zeros
/// stays). Error kShape (sizes disagree), kDtype.
Tensor word_attention(const Tensor& weights, const Words& target, const Words& source,
                      bool renormalize = false);

/// One link: target word `target` comes from source word `source`.
struct Link {
  int64_t source;
  int64_t target;
  bool operator==(const Link&) const = default;
};

/// The source word that each target word looks at most (of equals the first), in target order. A row whose
/// largest weight is below `at_least` has no link, nor has a row of zeros or of NaN.
///
/// Attention is not alignment: a decoder may look at a word's neighbour, or at eos. This is a view of the
/// model, not a dictionary (Koehn and Knowles 2017, arXiv:1706.03872, section 3.5).
std::vector<Link> hard_alignment(const Tensor& weights, float at_least = 0);

/// "0-0 1-2 2-1": source-target, counted from 0, as fast_align writes and Moses reads it (Pharaoh format).
std::string pharaoh(std::span<const Link> links);

/// -sum p log2 p of each row, made to sum 1: 0 bits for a row that looks at one place, log2(src_len) for one
/// that looks everywhere alike. A row of zeros has 0.
std::vector<double> row_entropy_bits(const Tensor& weights);

}  // namespace qkv::explain
