#include "qkv/attention/pooling/hierarchical.h"

namespace qkv {

TwoLevels::TwoLevels(Segments sentences, Segments documents)
    : sentences_(std::move(sentences)), documents_(std::move(documents)) {
  QKV_CHECK(documents_.n_tokens() == sentences_.size(), kShape,
            "two levels: the documents hold {} sentences, but there are {}", documents_.n_tokens(),
            sentences_.size());
}

TwoLevels TwoLevels::of(const std::vector<std::vector<int64_t>>& lengths) {
  std::vector<int64_t> tokens, sentences;
  for (const std::vector<int64_t>& document : lengths) {
    tokens.insert(tokens.end(), document.begin(), document.end());
    sentences.push_back(static_cast<int64_t>(document.size()));
  }
  return {Segments(tokens), Segments(sentences)};
}

Var PoolingLevel::operator()(Pass& pass, const Var& x, const Segments& rows, Probe* probe) const {
  const PackedRows in = pooling->prepare(x, rows);
  return (*pooling)(pass, encoder ? encoder(pass, in.x, in.segments, probe) : in.x, in.segments, probe);
}

HierarchicalPooling::HierarchicalPooling(PoolingLevel words, PoolingLevel sentences)
    : words_(std::move(words)), sentences_(std::move(sentences)) {
  QKV_CHECK(words_.pooling && sentences_.pooling, kValue, "hierarchical pooling: {} have no pooling",
            words_.pooling ? "sentences" : "words");
}

Var HierarchicalPooling::operator()(Pass& pass, const Var& x, const TwoLevels& rows, Probe* probe) const {
  return sentences_(pass, words_(pass, x, rows.sentences(), probe), rows.documents(), probe);
}

}  // namespace qkv
