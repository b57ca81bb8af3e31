#include "qkv/models/transformer_files.h"

#include "qkv/models/model_files.h"

namespace qkv {
namespace {

// What published files of these architectures hold besides parameters: other names of the tied embedding, and
// sinusoids.
bool passed_over(std::string_view tensor) {
  return tensor == "model.encoder.embed_tokens.weight" || tensor == "model.decoder.embed_tokens.weight" ||
         tensor == "lm_head.weight" || tensor == "model.encoder.embed_positions.weight" ||
         tensor == "model.decoder.embed_positions.weight";
}

}  // namespace

void save_transformer(const Transformer& model, const std::string& dir, const Precision& precision) {
  save_model_files(dir, model.parameters(), to_json(model.config()), precision);
}

TransformerConfig load_transformer_config(const std::string& dir) {
  return transformer_config_from_json(read_model_config(dir), config_path(dir));
}

std::unique_ptr<Transformer> load_transformer(const std::string& dir, std::optional<Precision> only_runs) {
  return load_transformer(dir, load_transformer_config(dir), only_runs);
}

std::unique_ptr<Transformer> load_transformer(const std::string& dir, const TransformerConfig& config,
                                              std::optional<Precision> only_runs) {
  ModelWeights weights(dir, {.place = {}, .other_spellings = {}, .passed_over = passed_over});
  return load_weights_into<Transformer>(config, weights, only_runs);
}

}  // namespace qkv
