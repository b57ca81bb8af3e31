#pragma once
// What the experiments with small language models share: flags, the text, training with a bar, the clock.

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>

#include "apps/cli/progress.h"
#include "qkv/tasks/language_model_trial.h"

namespace qkv::cli {

struct TrialFlags {
  int64_t d_model = 64, n_layers = 2, seed = 1;
  std::string text, dtype = "f32", svg;
  TrialOptions trial;
  bool json = false;

  /// --steps, --length, --batch, --lr, --d-model, --n-layers, --text, --dtype, --seed, --json, --svg.
  void add_to(CLI::App& app);
  /// The model that all flags but those of the experiment describe.
  Gpt2Config model() const;
};

/// One trained model.
struct Trial {
  std::unique_ptr<LanguageModelTrial> trained;
  double training_loss = 0;     // the mean of the last tenth of the steps
  double seconds_per_step = 0;  // the median
  int64_t peak_bytes = 0;       // the most in use during a step: weights, moments, gradients, activations
  int64_t parameters() const { return trained->model().parameters().numel(); }
};

/// Trains `n_models`, one after the other, on one text. Says at the start how long all of it will take.
class Trials {
 public:
  /// command: "qkv lab positions"; longest: of the windows to test on. Reads --text. Errors of that, and
  /// kValue where it is too short.
  Trials(std::string command, const TrialFlags& flags, int64_t n_models, int64_t longest);
  /// name: of the model, on the bar.
  Trial run(const Gpt2Config& model, const std::string& name);
  const LabText& text() const { return *text_; }

 private:
  std::string command_;
  TrialOptions options_;
  int64_t n_models_, trained_ = 0;
  std::unique_ptr<LabText> text_;
  std::optional<WorkBar> bar_;
};

}  // namespace qkv::cli
