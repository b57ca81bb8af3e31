#include "qkv/attention/segment_memory.h"

#include <algorithm>

#include "qkv/autograd/ops/rows.h"

namespace qkv {

SegmentMemory::SegmentMemory(int64_t n_layers, int64_t max_len) : max_len_(max_len) {
  constexpr int64_t kMostLayers = 65536;
  QKV_CHECK(n_layers >= 0 && n_layers <= kMostLayers && max_len >= 0, kValue,
            "segment memory: {} layers of {} rows; needs 0 to {} layers and no negative number of rows",
            n_layers, max_len, kMostLayers);
  layers_.resize(static_cast<size_t>(n_layers));
}

SegmentMemory::Context SegmentMemory::extend(int64_t layer, const Var& x, const Segments& segment) {
  Layer kept = at(layer);
  QKV_CHECK(x.defined() && x.value().rank() == 2 && x.size(0) == segment.n_tokens(), kShape,
            "segment memory: x is {}, needs to be [{} tokens, d]",
            x.defined() ? x.value().shape().str() : "nothing", segment.n_tokens());
  for (int64_t b = 0; b < segment.size(); ++b)
    QKV_CHECK(segment.past(b) == 0, kValue,
              "segment memory: sequence {} is given a past of {}; what came before is in the memory: give "
              "lengths alone",
              b, segment.past(b));
  if (!kept.rows.defined()) {
    kept.rows = Tensor::empty({0, x.size(1)}, x.dtype());
    kept.segments = Segments(std::vector<int64_t>(static_cast<size_t>(segment.size()), 0));
  }
  QKV_CHECK(segment.size() == kept.segments.size() && x.size(1) == kept.rows.size(1), kShape,
            "segment memory: remembers {} texts in rows of {}, got {} and {}", kept.segments.size(),
            kept.rows.size(1), segment.size(), x.value().shape().str());

  // Rows of the memory first, x's after them: take_rows counts through both.
  const int64_t n_kept = kept.segments.n_tokens();
  std::vector<int64_t> joined, last, lengths, pasts, last_lengths, new_lengths;
  for (int64_t b = 0; b < segment.size(); ++b) {
    const int64_t past = kept.segments.length(b), length = past + segment.length(b);
    for (int64_t i = 0; i < past; ++i) joined.push_back(kept.segments.begin(b) + i);
    for (int64_t i = 0; i < segment.length(b); ++i) joined.push_back(n_kept + segment.begin(b) + i);
    const int64_t stay = std::min(max_len_, length);
    last.insert(last.end(), joined.end() - stay, joined.end());
    lengths.push_back(length);
    pasts.push_back(past);
    new_lengths.push_back(segment.length(b));
    last_lengths.push_back(stay);
  }
  const Var memory(kept.rows);
  Context context{.rows = take_rows({memory, x}, joined),
                  .keys = Segments(lengths),
                  .queries = Segments(new_lengths, pasts)};
  const NoGrad off;
  layers_[static_cast<size_t>(layer)] = {.rows = take_rows({memory, Var(x.value())}, last).value(),
                                         .segments = Segments(last_lengths)};
  return context;
}

int64_t SegmentMemory::length(int64_t layer, int64_t sequence) const {
  const Layer& kept = at(layer);
  if (!kept.rows.defined()) return 0;
  QKV_CHECK(sequence >= 0 && sequence < kept.segments.size(), kValue, "segment memory: sequence {} of {}",
            sequence, kept.segments.size());
  return kept.segments.length(sequence);
}

const SegmentMemory::Layer& SegmentMemory::at(int64_t layer) const {
  QKV_CHECK(layer >= 0 && layer < static_cast<int64_t>(layers_.size()), kValue,
            "segment memory: layer {} of {}", layer, layers_.size());
  return layers_[static_cast<size_t>(layer)];
}

}  // namespace qkv
