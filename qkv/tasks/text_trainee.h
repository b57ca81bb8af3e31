#pragma once
// Training on plain text: what the loop of train/ needs to know of documents, whichever model reads them.

#include <memory>
#include <string>
#include <vector>

#include "qkv/text/tokenizer.h"
#include "qkv/train/bigrams.h"
#include "qkv/train/text_windows.h"
#include "qkv/train/trainer.h"

namespace qkv {

struct TextTrainingOptions {
  WindowOptions windows;           // length: of what the model sees, its own tokens counted
  DType dtype = DType::kF32;       // of activations
  DType save_dtype = DType::kF32;  // of saved models

  /// What a trainee checks first, for a model with max_len positions. Error kValue.
  void check(int64_t max_len) const;
};

/// Documents to train on, and others to be judged by.
struct TrainingText {
  std::vector<std::string> training, validation;
};

class TextTrainee : public Trainee {
 public:
  int64_t training_tokens() const { return static_cast<int64_t>(training_.ids.size()); }
  int64_t validation_tokens() const { return static_cast<int64_t>(validation_.ids.size()); }
  /// How well counts of the training text predict the validation text.
  CountingBaseline baseline() const;

  int64_t begin_epoch(int64_t epoch) override;
  int64_t target_tokens(int64_t batch) override;
  LossSums accumulate_gradients(int64_t batch, Pass& pass, double scale) override;
  Validation validate() override;
  std::string fingerprint() override;
  std::string vocabulary_fingerprint() override;

 protected:
  /// What a pass over windows gives.
  struct Outcome {
    LossSums sums;
    int64_t right = 0;  // targets guessed, where that is counted
  };

  /// `separator`: an id before every document and behind the last, which then stands in no window, as nothing
  /// follows it; -1: none. Errors: those of WindowPlan and Tokenizer.
  TextTrainee(std::shared_ptr<Tokenizer> tokenizer, const TrainingText& text, int32_t separator,
              const TextTrainingOptions& options);

  /// Targets among `rows` rows of one document in a window.
  virtual int64_t n_targets(int64_t rows) const = 0;
  /// Forward, and backward while gradients are on. `key`: for what is random besides dropout.
  virtual Outcome run(const TokenStream& text, const std::vector<RowRange>& windows, Pass& pass,
                      const RandomKey& key, double scale) const = 0;
  /// Fills in what `outcome` says besides the losses.
  virtual void describe(const Outcome& outcome, Validation& validation) const = 0;

  const TextTrainingOptions& options() const { return options_; }
  int64_t validation_bytes() const { return validation_bytes_; }

 private:
  std::shared_ptr<Tokenizer> tokenizer_;
  TextTrainingOptions options_;
  TokenStream training_, validation_;
  int64_t validation_bytes_;
  WindowPlan plan_, validation_plan_;
  std::vector<std::vector<RowRange>> epoch_;
};

}  // namespace qkv
