// The weights of chosen rows, for the probe: the scores of the blocked path's own tiles, through the rows'
// softmax.

#include "qkv/attention/paths/items.h"

namespace qkv::paths {

template <class T>
void attention_weights(const Problem<T>& p, const Sequence<T>& seq, int64_t head, int64_t i, int64_t rows,
                       kernels::RowSoftmax<accumulator_t<T>> softmax, float* const* attn_weights) {
  using A = accumulator_t<T>;
  for (int64_t r = 0; r < rows; ++r) std::fill(attn_weights[r], attn_weights[r] + seq.kv_len, 0.0f);
  if (p.needs_rows()) return row_blocks_weights(p, seq, head, i, rows, attn_weights);
  const bool competes = p.normalizer->blockwise() == Normalizer::Blockwise::kSoftmax;
  const A shift = static_cast<A>(p.normalizer->shift());
  const KeyRange range = visible_keys(p.masks, seq.index, seq.past + i, rows, seq.kv_len);
  Scratch& scratch = Scratch::fresh();
  A* s = scratch.take<A>(kTile * kTile);
  for (int64_t j0 = range.begin / kTile * kTile; j0 < range.end; j0 += kTile) {
    const Scratch::Frame frame(scratch);
    const int64_t cols = std::min(kTile, seq.kv_len - j0);
    const KeyTile<T> keys = key_tile(p, seq, head / p.heads.group(), j0, cols, scratch);
    TileMask mask;
    if (mask.look(p.masks, place_of(seq, head, i, rows, keys)) == Sight::kNone) continue;
    const A scale = score_tile(p, seq, head, i, rows, keys, scratch, s);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) {
        if (!mask.shows(r, c) || softmax.max[r] == -std::numeric_limits<A>::infinity()) continue;  // stays 0
        const A x = scale * s[r * kTile + c];
        attn_weights[r][j0 + c] = static_cast<float>(
            competes ? std::exp(x - softmax.max[r]) * softmax.share[r] : 1 / (1 + std::exp(-(x + shift))));
      }
  }
}

template void attention_weights<double>(const Problem<double>&, const Sequence<double>&, int64_t, int64_t,
                                        int64_t, kernels::RowSoftmax<double>, float* const*);
template void attention_weights<float>(const Problem<float>&, const Sequence<float>&, int64_t, int64_t,
                                       int64_t, kernels::RowSoftmax<float>, float* const*);
template void attention_weights<bfloat16>(const Problem<bfloat16>&, const Sequence<bfloat16>&, int64_t,
                                          int64_t, int64_t, kernels::RowSoftmax<float>, float* const*);

}  // namespace qkv::paths
