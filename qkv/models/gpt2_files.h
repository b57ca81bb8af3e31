#pragma once
// GPT-2's part of a model directory: config.json and model.safetensors under the names of Hugging Face's
// GPT2LMHeadModel, whose Conv1D weights lie as [d_in, d_out], queries, keys and values side by side. See
// docs/formats.md.

#include <memory>
#include <string>

#include "qkv/io/json.h"
#include "qkv/models/gpt2.h"

namespace qkv {

/// "gpt2", or "qkv_gpt2" for what no public architecture computes (other attention, other positions, d_k of
/// one's own), so that other tools refuse the model instead of computing something else.
std::string public_model_type(const Gpt2Config& config);
io::Json to_json(const Gpt2Config& config);
/// Of the three dropout rates in such files, resid_pdrop is taken for all. Error kFormat or kUnsupported,
/// naming `where` and the key.
Gpt2Config gpt2_config_from_json(const io::Json& json, const std::string& where);

/// As save_model_files() of model_files.h, errors too.
void save_gpt2(const Gpt2& model, const std::string& dir, const Precision& precision = DType::kF32);

/// dir/config.json, checked.
Gpt2Config load_gpt2_config(const std::string& dir);

/// Files with and without the prefix "transformer."; buffers (attn.bias) and a tied lm_head are passed over.
/// Errors: those of gpt2_config_from_json() and ModelWeights.
std::unique_ptr<Gpt2> load_gpt2(const std::string& dir, std::optional<Precision> only_runs = {});

}  // namespace qkv
