#pragma once
// Training state on disk: RUN/checkpoints/step-00001200/ with weights.safetensors, moments.safetensors (what
// the optimizer remembers), ema.safetensors (where weights are averaged as training goes), state.json and
// manifest.json (io/manifest.h), put in place as a whole. A folder without a good manifest does not count, so
// a run killed at any moment goes on from the newest complete one.

#include <functional>
#include <string>
#include <vector>

#include "qkv/autograd/parameter.h"
#include "qkv/train/ema.h"
#include "qkv/train/optimizer.h"

namespace qkv {

/// Everything that a run is besides weights and moments. Random numbers are functions of (seed, step), so
/// this is all.
struct TrainingState {
  int64_t step = 0;        // updates made
  int64_t epoch = 0;       // the epoch the next batch is of
  int64_t batch = 0;       // its number in that epoch
  int64_t micro_step = 0;  // forward passes made: keys the dropout
  int64_t target_tokens = 0;
  double seconds = 0;    // spent training
  double best = 0;       // of the metric that chooses; meaningful once best_step > 0
  double best_loss = 0;  // of the same weights; 0 where a checkpoint does not say
  int64_t best_step = 0;
  int64_t bad_validations = 0;  // since the best
  int64_t skipped_updates = 0;  // non-finite gradients, under the policies that go on
  int64_t validated_step = 0;   // of the last validation
  std::string best_by;          // "score" or "loss": what `best` is of
  std::string data;             // Trainee::fingerprint() of what was trained on
  std::string vocabulary;       // Trainee::vocabulary_fingerprint()
};

/// Saves under `dir`, then removes all but the newest `keep` (at least 1: this one stays). The order makes a
/// full disk or a kill harmless: the new one is complete before an old one goes. Error kIo.
void save_checkpoint(const std::string& dir, const Optimizer& optimizer, const TrainingState& state,
                     int64_t keep, const WeightEma* ema = nullptr);

/// Puts the newest good checkpoint of `dir` into the optimizer and its parameters and returns its state; with
/// `back`, the one that many before it, or the oldest there is. Damaged ones are named through `say` and
/// passed over. An average that it does not hold begins again at its weights. Error kIo when there is none,
/// kFormat when it does not fit the model or the optimizer.
TrainingState load_checkpoint(const std::string& dir, Optimizer& optimizer,
                              const std::function<void(const std::string&)>& say, int64_t back = 0,
                              WeightEma* ema = nullptr);

/// Whether `dir` holds any checkpoint, good or damaged.
bool has_checkpoint(const std::string& dir);

/// The parameters' values, as one safetensors file of f32; and back. Names and shapes must agree exactly
/// (Error kFormat).
void save_weights(const std::string& path, const std::vector<ParameterPtr>& parameters);
void load_weights(const std::string& path, const std::vector<ParameterPtr>& parameters);
/// The mean of several weight files, in double, into the parameters.
void load_average(const std::vector<std::string>& paths, const std::vector<ParameterPtr>& parameters);

}  // namespace qkv
