#include "qkv/models/gpt2_files.h"

#include "qkv/base/quote.h"
#include "qkv/models/config_check.h"
#include "qkv/models/model_files.h"
#include "qkv/nn/activation.h"

namespace qkv {
namespace {

constexpr std::string_view kPrefix = "transformer.";

TensorPlace place(const std::string& parameter, int64_t qk_rows, int64_t v_rows) {
  const std::string name = std::string(kPrefix) + parameter;
  const auto renamed = [&](std::string_view ours, std::string_view theirs) {
    const size_t at = name.find(ours);
    return at == std::string::npos ? "" : std::string(name).replace(at, ours.size(), theirs);
  };
  const bool matrix = parameter.ends_with(".weight");
  const int64_t rows = 2 * qk_rows + v_rows;
  for (const auto& [ours, first_row] :
       {std::pair{".attn.q_proj.", int64_t{0}}, {".attn.k_proj.", qk_rows}, {".attn.v_proj.", 2 * qk_rows}})
    if (const std::string tensor = renamed(ours, ".attn.c_attn."); !tensor.empty())
      return {.tensor = tensor, .transposed = matrix, .first_row = first_row, .n_rows = rows};
  if (const std::string tensor = renamed(".attn.out_proj.", ".attn.c_proj."); !tensor.empty())
    return {.tensor = tensor, .transposed = matrix};
  return {.tensor = name, .transposed = matrix && parameter.find(".mlp.") != std::string::npos};
}

bool passed_over(std::string_view tensor) {
  return tensor.ends_with(".attn.bias") || tensor.ends_with(".attn.masked_bias") ||
         tensor == "lm_head.weight";
}

FileLayout layout(const Gpt2Config& c) {
  return {.place = [qk = c.n_heads * c.key_width(), v = c.n_heads * c.value_width()](
                       const std::string& parameter) { return place(parameter, qk, v); },
          .other_spellings = {{std::string(kPrefix), ""}},
          .passed_over = passed_over};
}

}  // namespace

std::string public_model_type(const Gpt2Config& c) {
  const bool plain = c.positions == "learned" && c.attention == "scaled_dot" &&
                     c.n_heads * c.key_width() == c.d_model && c.value_width() == c.key_width();
  return plain ? "gpt2" : "qkv_gpt2";
}

io::Json to_json(const Gpt2Config& c) {
  const std::string type = public_model_type(c);
  io::Json json = {
      {"model_type", type},         {"architectures", {type == "gpt2" ? "GPT2LMHeadModel" : "QkvGpt2"}},
      {"vocab_size", c.vocab_size}, {"n_positions", c.max_len},
      {"n_ctx", c.max_len},         {"n_embd", c.d_model},
      {"n_layer", c.n_layers},      {"n_head", c.n_heads},
      {"n_inner", c.d_ff},          {"activation_function", activation_name(c.activation)},
      {"resid_pdrop", c.dropout},   {"embd_pdrop", c.dropout},
      {"attn_pdrop", c.dropout},    {"layer_norm_epsilon", c.eps},
      {"scale_attn_weights", true}, {"tie_word_embeddings", true},
      {"bos_token_id", nullptr},    {"eos_token_id", nullptr}};
  // As GPT-2 has it: one token ends a text and begins the next.
  if (c.eos_id >= 0) json["bos_token_id"] = json["eos_token_id"] = c.eos_id;
  if (type == "qkv_gpt2")
    json["qkv"] = {{"d_k", c.key_width()},
                   {"d_v", c.value_width()},
                   {"positions", c.positions},
                   {"attention", c.attention}};
  return json;
}

Gpt2Config gpt2_config_from_json(const io::Json& json, const std::string& where) {
  using namespace io;
  Gpt2Config c;
  const std::string type = get_string(json, "model_type", where);
  QKV_CHECK(type == "gpt2" || type == "qkv_gpt2", kUnsupported,
            "{}: model_type {} is not a decoder that qkv knows (gpt2, qkv_gpt2)", where, quote(type));
  for (const auto& [key, needed] : {std::pair{"scale_attn_weights", true},
                                    {"scale_attn_by_inverse_layer_idx", false},
                                    {"add_cross_attention", false},
                                    {"tie_word_embeddings", true}})
    QKV_CHECK(get_bool_or(json, key, needed, where) == needed, kUnsupported, "{}: {} {} is not supported",
              where, key, !needed);
  c.vocab_size = get_int_or(json, "vocab_size", c.vocab_size, 2, kMaxVocab, where);
  c.max_len = get_int_or(json, "n_positions", c.max_len, 2, kMaxPositions, where);
  c.d_model = get_int_or(json, "n_embd", c.d_model, 1, kMaxWidth, where);
  c.n_layers = get_int_or(json, "n_layer", c.n_layers, 1, kMaxLayers, where);
  c.n_heads = get_int_or(json, "n_head", c.n_heads, 1, kMaxWidth, where);
  c.d_ff = has(json, "n_inner", where) ? get_int(json, "n_inner", 1, kMaxWidth * 4, where) : 4 * c.d_model;
  c.dropout = get_number_or(json, "resid_pdrop", c.dropout, 0, 1, where);
  c.eps = get_number_or(json, "layer_norm_epsilon", c.eps, 0, 1, where);
  if (has(json, "eos_token_id", where))
    c.eos_id = static_cast<int32_t>(get_int(json, "eos_token_id", 0, c.vocab_size - 1, where));
  if (type == "qkv_gpt2") {
    const Json& own = get_object(json, "qkv", where);
    c.d_k = get_int(own, "d_k", 1, kMaxWidth, where);
    c.d_v = get_int(own, "d_v", 1, kMaxWidth, where);
    c.positions = get_string(own, "positions", where);
    c.attention = get_string(own, "attention", where);
  }
  check_file([&] {
    c.activation = activation_from_name(get_string_or(json, "activation_function", "gelu_new", where), where);
    c.validate(where);
  });
  return c;
}

void save_gpt2(const Gpt2& model, const std::string& dir, const Precision& precision) {
  save_model_files(dir, model.parameters(), to_json(model.config()), precision, layout(model.config()));
}

Gpt2Config load_gpt2_config(const std::string& dir) {
  return gpt2_config_from_json(read_model_config(dir), config_path(dir));
}

std::unique_ptr<Gpt2> load_gpt2(const std::string& dir, std::optional<Precision> only_runs) {
  const Gpt2Config config = load_gpt2_config(dir);
  ModelWeights weights(dir, layout(config));
  return load_weights_into<Gpt2>(config, weights, only_runs);
}

}  // namespace qkv
