#pragma once
// The training loop: batches in, checkpoints out. It knows no model and no text; what is trained is a
// Trainee.

#include <atomic>
#include <optional>
#include <string>

#include "qkv/autograd/parameter.h"
#include "qkv/nn/pass.h"
#include "qkv/train/checkpoint.h"
#include "qkv/train/optimizer.h"
#include "qkv/train/schedule.h"

namespace qkv {

struct LossSums {
  double loss = 0;  // sum over target tokens of what is minimised
  double nll = 0;   // sum of -log p(target)
  int64_t n = 0;    // target tokens
};

struct Validation {
  double loss = 0;           // per token, as minimised
  double perplexity = 0;     // exp of the mean -log p
  double score = 0;          // of what the task measures besides, where more is better
  std::string score_name;    // "bleu", "accuracy"; "": nothing
  double bits_per_byte = 0;  // of the text that the tokens stand for; 0: not known

  bool has_score() const { return !score_name.empty(); }
};

/// What a loop trains: a model with its data. All calls come from the loop's thread.
class Trainee {
 public:
  virtual ~Trainee() = default;
  virtual const std::vector<ParameterPtr>& parameters() = 0;
  /// Fixes the order of an epoch; returns its number of batches.
  virtual int64_t begin_epoch(int64_t epoch) = 0;
  virtual int64_t target_tokens(int64_t batch) = 0;
  /// Forward and backward of one batch: adds scale * d(sum of losses) to the gradients.
  virtual LossSums accumulate_gradients(int64_t batch, Pass& pass, double scale) = 0;
  virtual Validation validate() = 0;
  /// A complete model directory with the weights as they are now; `dir` is there and empty.
  virtual void save_model(const std::string& dir) = 0;
  /// Changes when an epoch's batches would be others: a hash of the data and of how it is cut.
  virtual std::string fingerprint() = 0;
  /// Changes when the ids of the data would mean something else: a hash of the tokenizers. "": has none.
  virtual std::string vocabulary_fingerprint() { return ""; }
};

/// What to do about a loss or gradient that is not finite, or beyond what Adam's squares can hold: stop with
/// an Error; leave the update out; or go back to the newest checkpoint's weights and on with the next
/// batches. After three failures in a row from one checkpoint, which may have been saved too late, the one
/// before it is gone back to.
enum class NonFinitePolicy { kStop, kSkip, kRollBack };
NonFinitePolicy non_finite_policy_from_name(std::string_view name);  // stop, skip, rollback

struct TrainOptions {
  std::string run_dir;
  uint64_t seed = 1;
  DType dtype = DType::kF32;  // of activations
  Schedule schedule;
  OptimizerChoice optimizer;
  int64_t max_steps = 0;  // 0: no limit (then one of the next two must be set)
  int64_t max_epochs = 0;
  double max_minutes = 0;               // ends a run by the clock; such a run does not repeat to the bit
  int64_t accumulate = 1;               // batches per update, at least 1
  bool gradient_checkpointing = false;  // nn/pass.h: less memory, the same bits
  int64_t validate_every = 500;         // steps, at least 1; also when weights are set aside for the average
  int64_t save_every = 500;             // steps between checkpoints, at least 1
  int64_t log_every = 50;               // steps between lines of metrics.jsonl
  int64_t keep_checkpoints = 2;         // at least 1
  int64_t average = 5;                  // the last n sets of weights that are averaged at the end; 0: none
  double ema_decay = 0;                 // of the moving average of weights (ema.h), in [0, 1); 0: none
  int64_t early_stop = 0;               // validations without a better one; 0: never
  bool choose_by_score = true;  // best by score where there is one (of equal ones by loss), else by loss
  NonFinitePolicy non_finite = NonFinitePolicy::kStop;
  bool resume = false;
  const std::atomic<bool>* stop = nullptr;  // set by a signal: save and leave

  /// What train() checks first; before texts are read is a better time. Error kValue.
  void check() const;
};

struct StepReport {
  TrainingState state;
  double loss = 0, perplexity = 0;  // of this step, per token
  double rate = 0, grad_norm = 0;
  double tokens_per_second = 0, flops_per_second = 0;  // over the last steps, validation left out
  double seconds_left = -1;                            // -1: not known
  int64_t steps_total = 0;                             // 0: not known
};

/// Hears about progress. The loop prints nothing itself.
class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  /// The options are sound and the checkpoint, if any, is loaded: training begins.
  virtual void on_start(const TrainingState&) {}
  virtual void on_step(const StepReport&) {}
  virtual void on_validation(const TrainingState&, const Validation&, bool /*best*/) {}
  virtual void on_message(const std::string&) {}
};

struct TrainResult {
  TrainingState state;
  Validation last;
  std::optional<Validation> average;  // of the averaged weights, where there are any
  std::optional<Validation> ema;      // of their moving average, where there is one
  bool stopped = false;               // left early on request; resume goes on from here
  std::string chosen;     // "best", "average", "ema" or "last": the best on validation, in run_dir/<chosen>
  std::string chosen_by;  // "score" or "loss"
  double chosen_value = 0, chosen_loss = 0;  // of those weights
  double flops_per_second = 0;               // of all steps of this call, validation left out
};

/// Trains until a limit, writing to run_dir: checkpoints/, best/, last/, average/, ema/,
/// metrics.jsonl, summary.json.
///
/// Resumed from a checkpoint, a run gives the same bits as one that was never interrupted (same binary, same
/// ISA; any number of threads). Where the data or the batches are no longer those of the checkpoint, it says
/// so and goes on with the next epoch. Errors: kValue (options), kIo (saving; run_dir holds a run), kFormat
/// (what is resumed is damaged or another's), kCancelled never: a stop is a result. A non-finite loss or
/// gradient is noticed before it touches the weights; under kStop, and after 100 in a row under the other
/// policies, it is an Error kNotFinite that names the step.
TrainResult train(Trainee& trainee, const TrainOptions& options, TrainObserver& observer);

}  // namespace qkv
