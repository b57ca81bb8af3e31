#pragma once
// Training a language model: each token is asked for the next.

#include "qkv/tasks/language_models.h"
#include "qkv/tasks/text_trainee.h"

namespace qkv {

/// Documents lie back to back, each led by the token that ends a text: from it alone the first token is
/// predicted, and after the last token it is what comes. Validation gives the perplexity, and bits a byte,
/// which do not depend on the vocabulary.
class LanguageModelTrainee : public TextTrainee {
 public:
  /// Errors: those of TextTrainee; kValue: windows longer than the model's max_len, no eos_id.
  LanguageModelTrainee(LanguageModel model, const TrainingText& text, const TextTrainingOptions& options);

  const std::vector<ParameterPtr>& parameters() override { return model_.gpt2->parameters().all(); }
  void save_model(const std::string& dir) override { model_.save(dir, options().save_dtype); }

 protected:
  int64_t n_targets(int64_t rows) const override { return rows; }
  Outcome run(const TokenStream& text, const std::vector<RowRange>& windows, Pass& pass, const RandomKey& key,
              double scale) const override;
  void describe(const Outcome& outcome, Validation& validation) const override;

 private:
  LanguageModel model_;
};

}  // namespace qkv
