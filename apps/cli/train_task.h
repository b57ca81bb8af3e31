#pragma once
// What differs between `qkv train translate`, `lm` and `mlm`. What they share (flags and files of settings,
// run directories, resuming, sweeps, progress) is train.cc.

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apps/cli/train_settings.h"
#include "qkv/train/trainer.h"

namespace qkv::cli {

/// One run's task: its settings, and what they make. Called in the order in which the functions stand here.
class TrainTask {
 public:
  virtual ~TrainTask() = default;
  virtual const char* name() const = 0;   // of the command
  virtual const char* about() const = 0;  // its line of help
  virtual const char* examples() const = 0;

  /// Lists every setting. `settings` keeps references to the fields.
  virtual void describe(Settings& settings) = 0;
  /// After load(): makes sense of the words. Error kValue: what was typed is wrong.
  virtual void resolve(const Settings& settings) = 0;
  /// Settings that are paths of files, by key.
  virtual std::vector<std::pair<const char*, std::string*>> paths() = 0;
  /// Reads the text, learns the vocabulary (or reads that of `vocabulary_dir`, where a run is resumed: else
  /// ""), makes the model; tells how much there is of everything.
  virtual std::unique_ptr<Trainee> make(const Settings& settings, const std::string& vocabulary_dir,
                                        TrainObserver& observer) = 0;
  /// Beside the checkpoints of a new run, for its resumptions.
  virtual void save_vocabulary(const std::string& dir) const = 0;
  /// What to do with the model now, for a person.
  virtual std::string next(const std::string& dir) const = 0;

  LoopSettings loop;
};

/// Kinds of training, in the order of the help.
std::unique_ptr<TrainTask> make_translation_task();
std::unique_ptr<TrainTask> make_language_model_task();
std::unique_ptr<TrainTask> make_masked_language_model_task();

/// Error kIo where a resumed run has lost its tokenizer.json.
void check_vocabulary_kept(const std::string& path);

/// "2.62 M parameters, bf16 on avx512 with 2 threads"
std::string machine_line(int64_t n_parameters, DType dtype);

}  // namespace qkv::cli
