#pragma once
// Training a translation model: what the loop of train/ needs to know of sentence pairs.

#include <string>
#include <vector>

#include "qkv/tasks/translation_model.h"
#include "qkv/train/batches.h"
#include "qkv/train/parallel_corpus.h"
#include "qkv/train/trainer.h"

namespace qkv {

struct TranslationTrainingOptions {
  double label_smoothing = 0.1;
  double r_drop =
      0;  // alpha of R-Drop (autograd/ops/cross_entropy.h): every batch goes through twice; 0: once
  BatchOptions batches;
  DType dtype = DType::kF32;       // of activations
  DType save_dtype = DType::kF32;  // of saved models
  int64_t bleu_sentences = 500;  // decoded at each validation, from the start of the validation set; 0: none
  int64_t bleu_beam = 1;
  std::string bleu_tokenize = "13a";

  /// What TranslationTrainee checks first, for a model with max_len positions. Error kValue.
  void check(int64_t max_len) const;
};

class TranslationTrainee : public Trainee {
 public:
  /// Tokenizes both texts at once. Errors of options.check(), BatchPlan, Tokenizer.
  TranslationTrainee(TranslationModel model, const ParallelText& training, const ParallelText& validation,
                     const TranslationTrainingOptions& options);

  int64_t n_skipped() const { return plan_.n_skipped(); }
  int64_t training_target_tokens() const;

  const std::vector<ParameterPtr>& parameters() override { return model_.transformer->parameters().all(); }
  int64_t begin_epoch(int64_t epoch) override;
  int64_t target_tokens(int64_t batch) override;
  LossSums accumulate_gradients(int64_t batch, Pass& pass, double scale) override;
  Validation validate() override;
  void save_model(const std::string& dir) override { model_.save(dir, options_.save_dtype); }
  std::string fingerprint() override;
  std::string vocabulary_fingerprint() override;

 private:
  LossSums loss(const TranslationBatch& batch, Pass& pass, double smoothing, double scale, bool train) const;

  TranslationModel model_;
  TranslationTrainingOptions options_;
  std::vector<PairIds> training_, validation_;
  std::vector<std::string> sample_sources_, sample_references_;
  BatchPlan plan_;
  std::vector<std::vector<int32_t>> epoch_;
};

}  // namespace qkv
