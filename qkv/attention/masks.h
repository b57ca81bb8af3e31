#pragma once
// The masks that qkv brings. Each is one file in masks/. Several together show what all of them show;
// any_of() shows what any of its masks does.

#include <vector>

#include "qkv/attention/rule.h"

namespace qkv {

/// Query i sees keys j <= i. In self-attention, and in a decode step, whose positions count from the past.
MaskPtr causal();

struct Window {
  int64_t back = 1;      // keys up to and including its own, looking back
  int64_t ahead = 0;     // keys after its own
  int64_t dilation = 1;  // the distance between keys that are seen
};
/// Query i sees keys i - m dilation for 0 <= m < back, and i + m dilation for 1 <= m <= ahead: sliding and
/// dilated windows (Beltagy et al., "Longformer" (2020), arXiv:2004.05150, section 3.1). Error kValue: back
/// or dilation below 1, ahead below 0, one of them 2^31 or more.
MaskPtr sliding_window(const Window& window);
inline MaskPtr sliding_window(int64_t back) { return sliding_window(Window{.back = back}); }

/// Query i sees keys j with i - j a multiple of stride (Child et al., "Sparse Transformers" (2019),
/// arXiv:1904.10509, section 4.3; its first pattern is sliding_window(stride)). Error kValue: stride < 1 or
/// >= 2^31.
MaskPtr strided(int64_t stride);

/// Sequence b sees its first visible[b] keys: padding at the end of a fixed-size buffer. Error kValue: a
/// negative count. A sequence without an entry sees no key.
MaskPtr key_limit(std::vector<int64_t> visible);

/// Keys before prefix[b] are seen by every query of sequence b, later ones by the queries from theirs on: a
/// prompt that looks both ways before a causal answer (Raffel et al. 2020, arXiv:1910.10683, section 3.2.1).
/// A sequence without an entry has no prefix. Error kValue: a negative length.
MaskPtr prefix(std::vector<int64_t> lengths);

/// Sequence b holds documents of these lengths, one after the other; a query sees its own document's keys.
/// What lies beyond the last document is one more. Error kValue: a negative length.
MaskPtr documents(std::vector<std::vector<int64_t>> lengths);

/// Queries at these positions see every key, and every query sees the keys at them. With a window, the global
/// and local attention of Longformer: any_of({sliding_window({.back = 257, .ahead = 256}),
/// global_positions({0})}). Error kValue: a negative position.
MaskPtr global_positions(std::vector<int64_t> positions);

/// Query i sees key j where shown[i / block][j / block]; rows and columns beyond it see and show nothing.
/// Error kValue: block < 1; kShape: rows of different lengths.
MaskPtr block_sparse(int64_t block, std::vector<std::vector<bool>> shown);

/// What any of the masks shows. Error kValue: no masks, a null one.
MaskPtr any_of(std::vector<MaskPtr> masks);

}  // namespace qkv
