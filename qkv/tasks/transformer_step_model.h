#pragma once
// A Transformer as the searches of decode/ want it.

#include <vector>

#include "qkv/attention/heads/head_controls.h"
#include "qkv/decode/step_model.h"
#include "qkv/models/transformer.h"

namespace qkv {

/// Encodes the sources at once; then one decoder step a call, with cached keys and values. Holds references
/// to the model.
class TransformerStepModel : public decode::StepModel {
 public:
  /// sources: ids of each sentence, end token included. dtype of activations. controls: of heads, or null.
  TransformerStepModel(const Transformer& model, const std::vector<std::vector<int32_t>>& sources,
                       DType dtype, const HeadControls* controls = nullptr);

  int64_t vocab_size() const override { return model_.config().target_vocab(); }
  int64_t n_sentences() const override { return source_.size(); }
  int64_t src_len(int64_t sentence) const override { return source_.length(sentence); }
  void step(std::span<const int32_t> ids, std::span<const int32_t> parents, Tensor& logits) override;
  /// The mean over the heads of the last layer.
  bool watch_attention() override;
  std::span<const float> attention(int64_t row) const override;

 private:
  const Transformer& model_;
  Segments source_;
  Pass pass_;
  const HeadControls* controls_;
  DecoderState state_;
  std::vector<int32_t> sentence_of_row_;  // in the caller's numbering, whoever has left since
  bool watching_ = false;
  std::vector<std::vector<float>> attention_;
};

}  // namespace qkv
