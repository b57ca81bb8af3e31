#include "qkv/tasks/language_model_training.h"

#include <cmath>

#include "qkv/autograd/ops/cross_entropy.h"

namespace qkv {

LanguageModelTrainee::LanguageModelTrainee(LanguageModel model, const TrainingText& text,
                                           const TextTrainingOptions& options)
    : TextTrainee(model.tokenizer, text, model.gpt2->config().eos_id, options), model_(std::move(model)) {
  const Gpt2Config& c = model_.gpt2->config();
  options.check(c.max_len);
  QKV_CHECK(c.eos_id >= 0, kValue, "train: the model needs the id of the token that ends a text (eos_id)");
}

TextTrainee::Outcome LanguageModelTrainee::run(const TokenStream& text, const std::vector<RowRange>& windows,
                                               Pass& pass, const RandomKey&, double scale) const {
  std::vector<int32_t> in, out;
  std::vector<int64_t> lengths;
  for (const RowRange& window : windows) {
    in.insert(in.end(), text.ids.begin() + window.begin, text.ids.begin() + window.end);
    out.insert(out.end(), text.ids.begin() + window.begin + 1, text.ids.begin() + window.end + 1);
    for (const RowRange& part : parts_of(text, window)) lengths.push_back(part.size());
  }
  const Var hidden = (*model_.gpt2)(pass, in, Segments(lengths));
  const CrossEntropy ce = cross_entropy(hidden, model_.gpt2->embedding(), nullptr, out, 0, scale);
  if (grad_enabled()) backward(ce.loss);
  return {.sums = {.loss = ce.loss_sum, .nll = ce.nll_sum, .n = ce.n}};
}

void LanguageModelTrainee::describe(const Outcome& outcome, Validation& v) const {
  v.bits_per_byte = outcome.sums.nll / std::log(2.0) / static_cast<double>(validation_bytes());
}

}  // namespace qkv
