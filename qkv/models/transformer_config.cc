#include "qkv/models/transformer_config.h"

#include "qkv/attention/variant.h"
#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/models/config_check.h"
#include "qkv/nn/activation.h"

namespace qkv {
void TransformerConfig::validate(const std::string& where) const {
  const ConfigCheck check(where);
  check.range("vocab_size", vocab_size, 2, kMaxVocab);
  check.range("target_vocab_size", target_vocab_size, 0, kMaxVocab);
  check.range("d_ff", d_ff, 1, kMaxWidth * 4);
  check.range("encoder_layers", encoder_layers, 1, kMaxLayers);
  check.range("decoder_layers", decoder_layers, 1, kMaxLayers);
  check.heads(d_model, n_heads, d_k, d_v);
  check.range("n_kv_heads", kv_heads(), 1, n_heads);
  QKV_CHECK(n_heads % kv_heads() == 0, kValue, "{}: n_heads ({}) is not a multiple of n_kv_heads ({})", where,
            n_heads, kv_heads());
  check.positions(positions, max_len, d_model);
  check_variant(encoder_attention, where + ": encoder_attention", heads(), d_model, /*causal=*/false,
                /*cross=*/false);
  check_variant(decoder_attention, where + ": decoder_attention", heads(), d_model, /*causal=*/true,
                /*cross=*/false);
  check_variant(cross_attention, where + ": attention to the source", heads(), d_model, /*causal=*/false,
                /*cross=*/true);
  check.rate("dropout", dropout);
  check.rate("attention_dropout", attention_dropout);
  check.rate("activation_dropout", activation_dropout);
  check.rate("stochastic_depth", stochastic_depth);
  for (auto [field, id] : {std::pair{"pad_id", pad_id}, {"eos_id", eos_id}, {"start_id", start_id}})
    check.range(field, id, 0, std::min(source_vocab(), target_vocab()) - 1);
}

std::string public_model_type(const TransformerConfig& c) {
  const bool plain = c.positions == "sinusoidal" && c.tie_output && c.kv_heads() == c.n_heads &&
                     c.n_heads * c.key_width() == c.d_model && c.value_width() == c.key_width() &&
                     c.encoder_attention == "scaled_dot" && c.decoder_attention == "scaled_dot" &&
                     c.cross_attention == "scaled_dot";
  // Pegasus has one vocabulary; Marian may have two, but gives the target's embedding the source's number of
  // rows.
  if (!plain || (c.pre_norm && !c.shared_vocab()) || c.source_vocab() != c.target_vocab())
    return "qkv_transformer";
  return c.pre_norm ? "pegasus" : "marian";
}

io::Json to_json(const TransformerConfig& c) {
  const std::string type = public_model_type(c);
  const std::string architecture = type == "marian"    ? "MarianMTModel"
                                   : type == "pegasus" ? "PegasusForConditionalGeneration"
                                                       : "QkvTransformer";
  io::Json json = {
      {"model_type", type},
      {"architectures", {architecture}},
      {"is_encoder_decoder", true},
      {"vocab_size", c.vocab_size},
      {"d_model", c.d_model},
      {"encoder_layers", c.encoder_layers},
      {"decoder_layers", c.decoder_layers},
      {"num_hidden_layers", c.encoder_layers},
      {"encoder_attention_heads", c.n_heads},
      {"decoder_attention_heads", c.n_heads},
      {"encoder_ffn_dim", c.d_ff},
      {"decoder_ffn_dim", c.d_ff},
      {"activation_function", activation_name(c.activation)},
      {"scale_embedding", true},
      {"static_position_embeddings", c.positions == "sinusoidal"},
      {"normalize_before", c.pre_norm},
      {"normalize_embedding", false},
      {"max_position_embeddings", c.max_len},
      {"max_length", c.max_len},
      {"share_encoder_decoder_embeddings", c.shared_vocab()},
      {"decoder_vocab_size", c.target_vocab()},
      {"tie_word_embeddings", c.tie_output},
      {"dropout", c.dropout},
      {"attention_dropout", c.attention_dropout},
      {"activation_dropout", c.activation_dropout},
      {"pad_token_id", c.pad_id},
      {"eos_token_id", c.eos_id},
      {"forced_eos_token_id", c.eos_id},
      {"bos_token_id", nullptr},
      {"decoder_start_token_id", c.start_id},
  };
  if (type == "qkv_transformer")
    json["qkv"] = {{"n_kv_heads", c.kv_heads()},
                   {"d_k", c.key_width()},
                   {"d_v", c.value_width()},
                   {"positions", c.positions},
                   {"encoder_attention", c.encoder_attention},
                   {"decoder_attention", c.decoder_attention},
                   {"cross_attention", c.cross_attention}};
  return json;
}

TransformerConfig transformer_config_from_json(const io::Json& json, const std::string& where) {
  using namespace io;
  TransformerConfig c;
  const std::string type = get_string(json, "model_type", where);
  QKV_CHECK(type == "marian" || type == "pegasus" || type == "qkv_transformer", kUnsupported,
            "{}: model_type {} is not an encoder-decoder that qkv knows (marian, pegasus, qkv_transformer)",
            where, quote(type));
  QKV_CHECK(get_bool_or(json, "scale_embedding", true, where), kUnsupported,
            "{}: scale_embedding false is not supported", where);
  QKV_CHECK(!get_bool_or(json, "normalize_embedding", false, where), kUnsupported,
            "{}: normalize_embedding is not supported", where);
  const auto size = [&](const char* key, int64_t max) { return get_int(json, key, 1, max, where); };
  c.vocab_size = size("vocab_size", kMaxVocab);
  if (!get_bool_or(json, "share_encoder_decoder_embeddings", true, where))
    c.target_vocab_size = size("decoder_vocab_size", kMaxVocab);
  c.d_model = size("d_model", kMaxWidth);
  c.encoder_layers = size("encoder_layers", kMaxLayers);
  c.decoder_layers = size("decoder_layers", kMaxLayers);
  c.n_heads = size("encoder_attention_heads", kMaxWidth);
  QKV_CHECK(size("decoder_attention_heads", kMaxWidth) == c.n_heads, kUnsupported,
            "{}: encoder and decoder have different numbers of heads", where);
  c.d_ff = size("encoder_ffn_dim", kMaxWidth * 4);
  QKV_CHECK(size("decoder_ffn_dim", kMaxWidth * 4) == c.d_ff, kUnsupported,
            "{}: encoder and decoder have different ffn widths", where);
  c.pre_norm = get_bool_or(json, "normalize_before", type == "pegasus", where);
  c.positions = get_bool_or(json, "static_position_embeddings", true, where) ? "sinusoidal" : "learned";
  c.max_len = get_int(json, "max_position_embeddings", 2, kMaxPositions, where);
  c.tie_output = get_bool_or(json, "tie_word_embeddings", true, where);
  c.dropout = get_number_or(json, "dropout", 0, 0, 1, where);
  c.attention_dropout = get_number_or(json, "attention_dropout", 0, 0, 1, where);
  c.activation_dropout = get_number_or(json, "activation_dropout", 0, 0, 1, where);
  const int64_t ids = std::min(c.source_vocab(), c.target_vocab()) - 1;
  c.pad_id = static_cast<int32_t>(get_int(json, "pad_token_id", 0, ids, where));
  c.eos_id = static_cast<int32_t>(get_int(json, "eos_token_id", 0, ids, where));
  c.start_id = static_cast<int32_t>(get_int(json, "decoder_start_token_id", 0, ids, where));
  if (type == "qkv_transformer") {
    const Json& own = get_object(json, "qkv", where);
    c.n_kv_heads = get_int(own, "n_kv_heads", 1, kMaxWidth, where);
    c.d_k = get_int(own, "d_k", 1, kMaxWidth, where);
    c.d_v = get_int(own, "d_v", 1, kMaxWidth, where);
    c.positions = get_string_or(own, "positions", c.positions, where);
    c.encoder_attention = get_string(own, "encoder_attention", where);
    c.decoder_attention = get_string(own, "decoder_attention", where);
    c.cross_attention = get_string(own, "cross_attention", where);
  }
  check_file([&] {
    c.activation = activation_from_name(get_string(json, "activation_function", where), where);
    c.validate(where);
  });
  return c;
}

}  // namespace qkv
