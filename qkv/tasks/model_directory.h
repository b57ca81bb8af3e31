#pragma once
// What the directories of all models have in common: docs/formats.md.

#include <map>
#include <memory>
#include <string>

#include "qkv/text/tokenizer.h"

namespace qkv {

/// The directory that a model is read from for `dir`: itself, or the chosen weights of a run of `qkv train`.
/// Error kFormat: a summary.json that names none.
std::string resolve_model_directory(const std::string& dir);

/// A tokenizer.json whose ids all have a row in an embedding of n_rows. Errors: kIo, kFormat, kUnsupported.
std::shared_ptr<Tokenizer> load_tokenizer(const std::string& path, int64_t n_rows);

/// dir/tokenizer_config.json, which the Transformers library's AutoTokenizer needs to be told and qkv does
/// not read. special_tokens: "eos_token" and so on to pieces.
void save_tokenizer_config(const std::string& dir, int64_t max_len,
                           const std::map<std::string, std::string>& special_tokens);

}  // namespace qkv
