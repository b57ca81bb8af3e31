#pragma once
// A Transformer's part of a model directory: config.json and model.safetensors. See docs/formats.md.

#include <memory>
#include <string>

#include "qkv/models/transformer.h"

namespace qkv {

/// Writes dir/config.json and dir/model.safetensors, each atomically, weights first. `dtype` f32 or bf16
/// (half the size; what the running model rounds to anyway where the CPU has a bf16 unit). Error kIo.
void save_transformer(const Transformer& model, const std::string& dir,
                      const Precision& precision = DType::kF32);

/// dir/config.json, checked. Errors: kIo (no such directory or file), kFormat, kValue, kUnsupported (an
/// architecture qkv does not have).
TransformerConfig load_transformer_config(const std::string& dir);

/// Checked: config ranges, the set of tensors, each shape and dtype, before memory is taken for it. Tensors
/// that other tools keep beside the weights (tied copies, sinusoids) are known by name and passed over.
/// Errors: kIo (missing file), kFormat (damaged or mismatched part, named), kUnsupported (an architecture qkv
/// does not have).
std::unique_ptr<Transformer> load_transformer(const std::string& dir,
                                              std::optional<Precision> only_runs = {});

/// The same with a config that load_transformer_config(dir) has given.
std::unique_ptr<Transformer> load_transformer(const std::string& dir, const TransformerConfig& config,
                                              std::optional<Precision> only_runs = {});

}  // namespace qkv
