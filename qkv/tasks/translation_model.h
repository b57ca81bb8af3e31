#pragma once
// A translation model as it lies in a directory: a Transformer and its tokenizers.

#include <memory>
#include <optional>
#include <string>

#include "qkv/models/transformer.h"
#include "qkv/text/tokenizer.h"

namespace qkv {

struct TranslationModel {
  std::shared_ptr<Transformer> transformer;
  std::shared_ptr<Tokenizer> source_tokenizer,
      target_tokenizer;  // the same object when the vocabulary is joint

  /// A model directory, or a run directory of `qkv train translate`, of which the weights chosen on
  /// validation are taken. Errors: kIo, kFormat, kUnsupported; parts that do not fit each other (a tokenizer
  /// that gives ids for which the embedding has no row) are named, before any weight is read.
  /// With a Precision it can run in that alone: weights are packed for it as they are read, and nothing else
  /// of them is kept.
  static TranslationModel load(const std::string& dir, std::optional<Precision> only_runs = {});
  /// config.json, model.safetensors, tokenizer.json (and target_tokenizer.json for separate vocabularies);
  /// for a public architecture also tokenizer_config.json and generation_config.json, which qkv does not
  /// read.
  void save(const std::string& dir, const Precision& precision) const;
};

/// bf16 where this CPU has a unit for it, else f32: the dtype that models run in unless told otherwise.
DType default_compute_dtype();
/// "bf16", "f32", or "auto" for the default. Error kValue for anything else.
DType compute_dtype_from_name(std::string_view name);
/// These, or "int8", whose activations are as in "auto". Error kValue.
Precision precision_from_name(std::string_view name);
/// The same of what runs a model or run directory: "auto" is 8 bits where its files are (qkv quantize).
/// Error kValue, kIo, kFormat.
Precision precision_for(std::string_view name, const std::string& model);

}  // namespace qkv
