#pragma once
// Segment-level recurrence: a long text is read in segments, and queries of one see the rows of those before.

#include <vector>

#include "qkv/autograd/var.h"
#include "qkv/base/segments.h"

namespace qkv {

/// What the layers of a model keep of earlier segments: Dai et al. 2019 (Transformer-XL), arXiv:1901.02860,
/// section 3.2. Layer n attends from h^{n-1} of the new segment to [SG(m^{n-1}) ; h^{n-1}], where m are the
/// last max_len rows that it met before, without gradients; so with N layers a token hears of N max_len
/// earlier ones. Positions have to be relative: absolute ones say the same of every segment.
///
/// Under NoGrad it is the cache of a running model that keeps hidden rows instead of keys and values.
/// One for each text (batch of texts) that is read; sequence b of all calls is the same text.
class SegmentMemory {
 public:
  /// Error kValue: a negative size, more than 65536 layers.
  SegmentMemory(int64_t n_layers, int64_t max_len);

  struct Context {
    Var rows;          // of each sequence, the memory's and then x's
    Segments keys;     // how many that is
    Segments queries;  // x's rows, whose past is the memory
  };
  /// x [n_tokens, d] of the new segments, which layer `layer` is about to attend from. Remembers them.
  /// `segment` has lengths alone: what came before is in the memory. Errors: kShape (x is no matrix of so
  /// many rows; another number of sequences, or another width, than before), kValue (no such layer; a past).
  Context extend(int64_t layer, const Var& x, const Segments& segment);

  /// Rows remembered; 0 before the first segment. Error kValue: no such layer or sequence.
  int64_t length(int64_t layer, int64_t sequence) const;

 private:
  struct Layer {
    Tensor rows;  // without gradients
    Segments segments;
  };
  const Layer& at(int64_t layer) const;

  std::vector<Layer> layers_;
  int64_t max_len_;
};

}  // namespace qkv
