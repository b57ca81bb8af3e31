#pragma once
// A small language model trained for an experiment: no checkpoints, no files, a loss at the end.

#include <cstdint>
#include <vector>

#include "qkv/models/gpt2.h"
#include "qkv/tasks/lab_text.h"
#include "qkv/train/optimizers/adamw.h"
#include "qkv/train/schedule.h"

namespace qkv {

struct TrialOptions {
  int64_t length = 64, batch = 32;  // tokens of a window, windows of a step
  int64_t steps = 500;              // of the schedule: a rise over a tenth of them, then half a cosine
  double peak_rate = 5e-3;
  DType dtype = DType::kF32;  // of activations
  uint64_t seed = 1;          // of weights and batches
};

/// A decoder-only model (models/gpt2.h) and its training by AdamW. Two trials with one seed see the same text
/// in the same order, so that models can be compared.
class LanguageModelTrial {
 public:
  /// vocab_size comes from the text. Keeps a reference to it. Error kValue: an option below 1; what Gpt2
  /// says.
  LanguageModelTrial(Gpt2Config model, const LabText& text, const TrialOptions& options);

  /// One step; its loss a token, in nats. Error kNotFinite: a loss or gradient is not.
  double step();
  int64_t steps_done() const { return optimizer_.steps(); }

  /// The loss a token on held-out windows of `length`, over the second half of each: what is predicted with
  /// length / 2 to length tokens in sight. About n_tokens are read, in as many windows as that gives, 1 at
  /// least. Error kValue: the text holds no such window.
  double held_out_loss(int64_t length, int64_t n_tokens) const;

  const Gpt2& model() const { return model_; }

 private:
  const LabText& text_;
  TrialOptions options_;
  Gpt2 model_;
  AdamW optimizer_;
  Schedule schedule_;
};

}  // namespace qkv
