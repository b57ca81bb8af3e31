#include "qkv/tasks/transformer_step_model.h"

#include "qkv/base/trace.h"

namespace qkv {
namespace {

std::vector<int64_t> lengths(const std::vector<std::vector<int32_t>>& sources) {
  std::vector<int64_t> out;
  for (const auto& ids : sources) out.push_back(static_cast<int64_t>(ids.size()));
  return out;
}

}  // namespace

TransformerStepModel::TransformerStepModel(const Transformer& model,
                                           const std::vector<std::vector<int32_t>>& sources, DType dtype,
                                           const HeadControls* controls)
    : model_(model), source_(lengths(sources)), pass_(Pass::running(dtype)), controls_(controls) {
  NoGrad off;
  std::vector<int32_t> ids;
  for (const auto& sentence : sources) ids.insert(ids.end(), sentence.begin(), sentence.end());
  Probe probe = probe_with(controls_);
  const Var memory = model.encode(pass_, ids, source_, &probe);
  state_ = model.start(pass_, memory, source_);
  for (int64_t s = 0; s < source_.size(); ++s) sentence_of_row_.push_back(static_cast<int32_t>(s));
}

void TransformerStepModel::step(std::span<const int32_t> ids, std::span<const int32_t> parents,
                                Tensor& logits) {
  const trace::Span span("decode_step");
  NoGrad off;
  model_.select(state_, {parents.begin(), parents.end()});
  std::vector<int32_t> sentences;
  for (int32_t parent : parents) sentences.push_back(sentence_of_row_[parent]);
  sentence_of_row_ = std::move(sentences);

  Probe probe = probe_with(controls_);
  if (watching_) {
    probe.sites = {"cross"};
    probe.layers = {model_.config().decoder_layers - 1};
  }
  const Var hidden = model_.step(pass_, {ids.begin(), ids.end()}, state_, &probe);
  logits = model_.logits(hidden);
  if (!watching_) return;

  // Rows come by sentence, then head, then hypothesis: the order of `parents` within each sentence.
  const int64_t heads = model_.config().n_heads;
  attention_.assign(parents.size(), {});
  size_t next = 0;
  for (size_t row = 0; row < parents.size();) {
    size_t end = row;
    while (end < parents.size() && sentence_of_row_[end] == sentence_of_row_[row]) ++end;
    for (int64_t h = 0; h < heads; ++h)
      for (size_t r = row; r < end; ++r) {
        const std::vector<float>& weights = probe.rows.at(next++).attn_weights;
        attention_[r].resize(weights.size(), 0);
        for (size_t j = 0; j < weights.size(); ++j)
          attention_[r][j] += weights[j] / static_cast<float>(heads);
      }
    row = end;
  }
}

bool TransformerStepModel::watch_attention() { return watching_ = true; }

std::span<const float> TransformerStepModel::attention(int64_t row) const {
  return attention_.at(static_cast<size_t>(row));
}

}  // namespace qkv
