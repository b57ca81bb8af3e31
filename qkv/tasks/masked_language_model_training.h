#pragma once
// Training a masked language model: some tokens are hidden, and asked for.

#include "qkv/tasks/language_models.h"
#include "qkv/tasks/text_trainee.h"
#include "qkv/train/masking.h"

namespace qkv {

/// Each piece of a document in a window is framed as [CLS] piece [SEP], and mask_words() hides some of its
/// tokens by the step: no sentence pairs, and masks that change, which Liu et al. 2019 (RoBERTa),
/// arXiv:1907.11692, sections 4.1 and 4.2, found as good or better. Only the chosen rows go through the head.
/// Validation hides the same tokens every time and gives their loss and the share in percent that is guessed
/// right.
class MaskedLanguageModelTrainee : public TextTrainee {
 public:
  /// windows.length counts [CLS] and [SEP]. Errors: those of TextTrainee and bert_tokens(); kValue: windows
  /// under 3 or longer than the model's max_len.
  MaskedLanguageModelTrainee(MaskedLanguageModel model, const TrainingText& text,
                             const TextTrainingOptions& options);

  const std::vector<ParameterPtr>& parameters() override { return model_.bert->parameters().all(); }
  void save_model(const std::string& dir) override { model_.save(dir, options().save_dtype); }

 protected:
  int64_t n_targets(int64_t rows) const override { return n_chosen(rows, masking_.share); }
  Outcome run(const TokenStream& text, const std::vector<RowRange>& windows, Pass& pass, const RandomKey& key,
              double scale) const override;
  void describe(const Outcome& outcome, Validation& validation) const override;

 private:
  int64_t count_right(const Var& predicted, const std::vector<int32_t>& words) const;

  MaskedLanguageModel model_;
  BertTokens tokens_;
  MaskingOptions masking_;
};

}  // namespace qkv
