#pragma once
// BERT's part of a model directory: config.json and model.safetensors under the names of Hugging Face's
// BertForMaskedLM. See docs/formats.md.

#include <memory>
#include <string>

#include "qkv/io/json.h"
#include "qkv/models/bert.h"

namespace qkv {

/// "bert", or "qkv_bert" for what no public architecture computes (other attention, other positions, d_k of
/// one's own), so that other tools refuse the model instead of computing something else.
std::string public_model_type(const BertConfig& config);
io::Json to_json(const BertConfig& config);
/// Which heads there are is not in config.json: both false. Error kFormat or kUnsupported, naming `where` and
/// the key.
BertConfig bert_config_from_json(const io::Json& json, const std::string& where);

/// As save_model_files() of model_files.h, errors too.
void save_bert(const Bert& model, const std::string& dir, const Precision& precision = DType::kF32);

/// dir/config.json, checked; without heads.
BertConfig load_bert_config(const std::string& dir);

/// With the heads whose weights are there. Files of BertModel (names without "bert.") and those with the old
/// LayerNorm.gamma and beta are read too; the next-sentence head is passed over. Errors: those of
/// bert_config_from_json() and ModelWeights.
std::unique_ptr<Bert> load_bert(const std::string& dir, std::optional<Precision> only_runs = {});

}  // namespace qkv
