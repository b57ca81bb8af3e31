#pragma once
// Everything that `qkv train translate` can be told, with its defaults.

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
              non_finite = "stop", save_dtype = "f32";
  TrainOptions train;
  TranslationTrainingOptions task;

  TrainSettings();
  /// Lists every setting. `settings` keeps references to the fields.
  void describe(Settings& settings);
  /// After load(): checks the words, and fills model, train and task from them. Error kValue.
  void resolve();
  BpeTrainerOptions bpe() const;
};

}  // namespace qkv::cli
