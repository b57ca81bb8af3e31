#pragma once
// Everything that `qkv train translate` can be told, with its defaults.

#include <map>
#include <optional>

#include "apps/cli/settings.h"
#include "qkv/models/transformer_config.h"
#include "qkv/tasks/translation_training.h"
#include "qkv/text/bpe_trainer.h"
#include "qkv/train/trainer.h"

namespace qkv::cli {

struct TrainSettings {
  // [data]
  std::string pairs, source, target, valid_pairs, valid_source, valid_target;
  bool swap = false;
  // [vocabulary]
  int64_t vocab_size = 8000, min_frequency = 2;
  bool joint = true, byte_level = true, lowercase = false;
  std::string normalization = "none", tokenizer;
  // [model]
  TransformerConfig model;
  std::string activation = "relu", norm = "post", positions = "sinusoidal", attention = "scaled_dot",
              encoder_attention = "scaled_dot", decoder_attention = "scaled_dot";
  // [training]
  int64_t seed = 1;
  std::string dtype = "auto", optimizer = "adam", schedule = "inverse_sqrt", best_by = "bleu",
              decay_shape = "linear", non_finite = "stop", save_dtype = "f32";
  std::optional<double> lr;
  // Of the optimizers, by name: those of all of them. resolve() fills in the defaults of the chosen one.
  std::map<std::string, std::optional<double>> optimizer_numbers;
  std::map<std::string, std::optional<bool>> optimizer_flags;
  TrainOptions train;
  TranslationTrainingOptions task;

  TrainSettings();
  /// Lists every setting. `settings` keeps references to the fields.
  void describe(Settings& settings);
  /// After load(): checks the words, and fills model, train and task from them. Error kValue.
  void resolve();
  BpeTrainerOptions bpe() const;

 private:
  void describe_optimizers(Settings& settings);
  void resolve_optimizer();
};

}  // namespace qkv::cli
