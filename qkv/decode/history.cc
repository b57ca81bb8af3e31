#include "qkv/decode/history.h"

#include <algorithm>

namespace qkv::decode {

int64_t History::keep_attention(const StepModel& model, int64_t row, int64_t src_len) {
  if (!plan_.uses_attention()) return -1;
  const std::span<const float> weights = model.attention(row);
  QKV_CHECK(static_cast<int64_t>(weights.size()) == src_len, kShape,
            "{}: the model gave {} attention weights for row {}, needs src_len ({})", plan_.operation(),
            weights.size(), row, src_len);
  const auto at = static_cast<int64_t>(attention_.size());
  attention_.insert(attention_.end(), weights.begin(), weights.end());
  return at;
}

int64_t History::add(int64_t parent, int32_t id, float log_prob, int64_t attention) {
  nodes_.push_back({.parent = parent,
                    .attention = attention,
                    .log_prob = this->log_prob(parent) + static_cast<double>(log_prob),
                    .token_log_prob = log_prob,
                    .id = id,
                    .length = static_cast<int32_t>(length(parent) + 1)});
  return static_cast<int64_t>(nodes_.size()) - 1;
}

double History::score(int64_t node, int64_t src_len) const {
  const SearchOptions& options = plan_.options();
  const double first = normalized(log_prob(node), length(node), options);
  if (options.coverage_penalty == 0) return first;
  std::vector<double> covered(static_cast<size_t>(src_len));
  for (int64_t at = node; at != kRoot; at = nodes_[static_cast<size_t>(at)].parent) {
    const float* weights = attention_.data() + nodes_[static_cast<size_t>(at)].attention;
    for (size_t i = 0; i < covered.size(); ++i) covered[i] += static_cast<double>(weights[i]);
  }
  return first + options.coverage_penalty * coverage_penalty(covered);
}

Hypothesis History::hypothesis(int64_t node, int64_t src_len, bool ended) const {
  const auto n = static_cast<size_t>(length(node));
  Hypothesis out;
  out.ids.resize(n);
  out.token_log_probs.resize(n);
  out.log_prob = log_prob(node);
  out.score = score(node, src_len);
  out.ended = ended;
  if (plan_.options().want_attention)
    out.attention = Tensor::empty({static_cast<int64_t>(n), src_len}, DType::kF32);
  size_t i = n;
  for (int64_t at = node; at != kRoot;) {
    const Node& token = nodes_[static_cast<size_t>(at)];
    --i;
    out.ids[i] = token.id;
    out.token_log_probs[i] = token.token_log_prob;
    if (out.attention.defined())
      std::copy_n(attention_.data() + token.attention, src_len,
                  out.attention.data<float>() + static_cast<int64_t>(i) * src_len);
    at = token.parent;
  }
  return out;
}

}  // namespace qkv::decode
