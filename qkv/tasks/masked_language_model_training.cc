#include "qkv/tasks/masked_language_model_training.h"

#include <algorithm>

#include "qkv/autograd/ops/cross_entropy.h"
#include "qkv/autograd/ops/rows.h"

namespace qkv {
namespace {

// Room for [CLS] and [SEP].
TextTrainingOptions framed(TextTrainingOptions options, const BertConfig& c) {
  options.check(c.max_len);
  QKV_CHECK(options.windows.length >= 3, kValue, "train: context is {}, needs to be at least 3",
            options.windows.length);
  options.windows.length -= 2;
  return options;
}

}  // namespace

MaskedLanguageModelTrainee::MaskedLanguageModelTrainee(MaskedLanguageModel model, const TrainingText& text,
                                                       const TextTrainingOptions& options)
    : TextTrainee(model.tokenizer, text, /*separator=*/-1, framed(options, model.bert->config())),
      model_(std::move(model)),
      tokens_(bert_tokens(*model_.tokenizer)),
      masking_{.mask_id = tokens_.mask, .vocab_size = model_.tokenizer->vocab_size()} {}

TextTrainee::Outcome MaskedLanguageModelTrainee::run(const TokenStream& text,
                                                     const std::vector<RowRange>& windows, Pass& pass,
                                                     const RandomKey& key, double scale) const {
  std::vector<int32_t> ids;
  std::vector<int64_t> lengths;
  std::vector<RowRange> maskable;
  for (const RowRange& window : windows)
    for (const RowRange& part : parts_of(text, window)) {
      ids.push_back(tokens_.cls);
      const auto begin = static_cast<int64_t>(ids.size());
      ids.insert(ids.end(), text.ids.begin() + part.begin, text.ids.begin() + part.end);
      maskable.push_back({begin, static_cast<int64_t>(ids.size())});
      ids.push_back(tokens_.sep);
      lengths.push_back(part.size() + 2);
    }
  const MaskedText hidden_words = mask_words(std::move(ids), maskable, masking_, key);
  const Bert& bert = *model_.bert;
  const Var hidden = bert(pass, hidden_words.ids, Segments(lengths));
  const Var predicted = bert.predict(take_rows({hidden}, hidden_words.rows));
  const CrossEntropy ce =
      cross_entropy(predicted, bert.output_weight(), bert.output_bias(), hidden_words.words, 0, scale);
  Outcome outcome{.sums = {.loss = ce.loss_sum, .nll = ce.nll_sum, .n = ce.n}};
  if (grad_enabled())
    backward(ce.loss);
  else
    outcome.right = count_right(predicted, hidden_words.words);
  return outcome;
}

int64_t MaskedLanguageModelTrainee::count_right(const Var& predicted,
                                                const std::vector<int32_t>& words) const {
  constexpr int64_t kRows = 256;  // logits of so many at once
  int64_t right = 0;
  for (int64_t begin = 0; begin < predicted.size(0); begin += kRows) {
    const int64_t end = std::min(begin + kRows, predicted.size(0));
    const Tensor logits = model_.bert->logits(Var(predicted.value().rows(begin, end)));
    for (int64_t r = 0; r < end - begin; ++r) {
      const float *row = logits.data<float>() + r * logits.size(1),
                  *best = std::max_element(row, row + logits.size(1));
      right += best - row == words[static_cast<size_t>(begin + r)];
    }
  }
  return right;
}

void MaskedLanguageModelTrainee::describe(const Outcome& outcome, Validation& v) const {
  v.score_name = "accuracy";
  v.score =
      100 * static_cast<double>(outcome.right) / static_cast<double>(std::max<int64_t>(1, outcome.sums.n));
}

}  // namespace qkv
