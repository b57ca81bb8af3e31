#pragma once
// Settings that every kind of `qkv train` has.

#include <initializer_list>
#include <map>
#include <optional>
#include <string>

#include "apps/cli/settings.h"
#include "qkv/text/bpe_trainer.h"
#include "qkv/train/trainer.h"

namespace qkv::cli {

/// [vocabulary]
struct VocabularySettings {
  int64_t vocab_size = 8000, min_frequency = 2;
  bool byte_level = true, lowercase = false;
  std::string normalization = "none", tokenizer;

  void describe(Settings& settings);
  /// What to learn; without special tokens of the task's own. Error kValue.
  BpeTrainerOptions bpe() const;
};

/// The rest of [training], after what the task has of its own: the loop, its optimizer and its schedule.
struct LoopSettings {
  int64_t seed = 1;
  std::string dtype = "auto", optimizer = "adam", schedule = "inverse_sqrt", decay_shape = "linear",
              non_finite = "stop", save_dtype = "f32";
  std::optional<double> lr;
  std::optional<int64_t> max_epochs;
  // Of the optimizers, by name: those of all of them. resolve() fills in the defaults of the chosen one.
  std::map<std::string, std::optional<double>> optimizer_numbers;
  std::map<std::string, std::optional<bool>> optimizer_flags;
  TrainOptions options;

  LoopSettings();
  /// Lists every setting. `settings` keeps references to the fields.
  void describe(Settings& settings);
  /// After load(): checks the words, and fills `options` from them. Error kValue.
  void resolve();

 private:
  void describe_optimizers(Settings& settings);
  void resolve_optimizer();
};

/// Where a word of positions belongs: added to embeddings (nn/positions.h), then it is returned; or in
/// attention (attention/variant.h), then it is joined to these words, and "none" is returned. Error kValue:
/// neither.
std::string place_positions(const std::string& word, std::initializer_list<std::string*> attention);

/// Whether `value` is `yes`. Error kValue, naming the setting, where it is `no` neither.
bool one_of(const char* setting, const std::string& value, const char* yes, const char* no);

}  // namespace qkv::cli
