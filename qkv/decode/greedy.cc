#include "qkv/decode/greedy.h"

#include "qkv/decode/history.h"
#include "qkv/decode/next_tokens.h"

namespace qkv::decode {

std::vector<Hypothesis> greedy_search(StepModel& model, const SearchOptions& options) {
  const SearchPlan plan(model, options, "greedy_search");
  History history(plan);
  NextTokens next(1);

  std::vector<Hypothesis> results(static_cast<size_t>(model.n_sentences()));
  std::vector<int32_t> ids(results.size(), options.start_id), parents, sentences;
  std::vector<int64_t> nodes(results.size(), History::kRoot);  // by sentence
  for (int32_t s = 0; s < static_cast<int32_t>(results.size()); ++s) sentences.push_back(s);
  parents = sentences;

  Tensor logits;
  for (int64_t position = 0; !sentences.empty(); ++position) {
    model.step(ids, parents, logits);
    next.score(plan, position, sentences, logits);
    ids.clear();
    parents.clear();
    std::vector<int32_t> still_open;
    for (size_t r = 0; r < sentences.size(); ++r) {
      const auto row = static_cast<int64_t>(r);
      const int32_t s = sentences[r];
      const int64_t src_len = model.src_len(s);
      const auto tokens = next.tokens(row);
      const float end = next.end_log_prob(row);
      const bool ends = tokens.empty() || end > tokens[0].log_prob ||
                        (end == tokens[0].log_prob && options.eos_id < tokens[0].id);
      const TokenScore token = ends ? TokenScore{options.eos_id, end} : tokens[0];
      int64_t& node = nodes[static_cast<size_t>(s)];
      node = history.add(node, token.id, token.log_prob, history.keep_attention(model, row, src_len));
      if (ends || position + 1 == plan.max_length(s)) {
        results[static_cast<size_t>(s)] = history.hypothesis(node, src_len, ends);
      } else {
        ids.push_back(token.id);
        parents.push_back(static_cast<int32_t>(r));
        still_open.push_back(s);
      }
    }
    sentences = std::move(still_open);
  }
  return results;
}

}  // namespace qkv::decode
