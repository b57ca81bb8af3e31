#include "qkv/models/bert_files.h"

#include "qkv/base/quote.h"
#include "qkv/models/config_check.h"
#include "qkv/models/model_files.h"
#include "qkv/nn/activation.h"

namespace qkv {
namespace {

TensorPlace place(const std::string& parameter) {
  static const std::pair<std::string_view, std::string_view> kNames[] = {
      {".attention.q_proj.", ".attention.self.query."},
      {".attention.k_proj.", ".attention.self.key."},
      {".attention.v_proj.", ".attention.self.value."},
      {".attention.out_proj.", ".attention.output.dense."},
  };
  for (const auto& [ours, theirs] : kNames)
    if (const size_t at = parameter.find(ours); at != std::string::npos)
      return {.tensor = std::string(parameter).replace(at, ours.size(), theirs)};
  return {.tensor = parameter};
}

bool passed_over(std::string_view tensor) {
  return tensor.ends_with("embeddings.position_ids") || tensor.starts_with("cls.predictions.decoder.") ||
         tensor.starts_with("cls.seq_relationship.");
}

FileLayout layout() {
  return {.place = place,
          .other_spellings = {{"bert.", ""},
                              {"LayerNorm.weight", "LayerNorm.gamma"},
                              {"LayerNorm.bias", "LayerNorm.beta"}},
          .passed_over = passed_over};
}

}  // namespace

std::string public_model_type(const BertConfig& c) {
  const bool plain = c.positions == "learned" && c.attention == "scaled_dot" &&
                     c.n_heads * c.key_width() == c.d_model && c.value_width() == c.key_width();
  return plain ? "bert" : "qkv_bert";
}

io::Json to_json(const BertConfig& c) {
  const std::string type = public_model_type(c);
  const std::string architecture = type != "bert" ? "QkvBert"
                                   : !c.masked_lm ? "BertModel"
                                   : c.pooler     ? "BertForPreTraining"
                                                  : "BertForMaskedLM";
  io::Json json = {{"model_type", type},
                   {"architectures", {architecture}},
                   {"vocab_size", c.vocab_size},
                   {"hidden_size", c.d_model},
                   {"num_hidden_layers", c.n_layers},
                   {"num_attention_heads", c.n_heads},
                   {"intermediate_size", c.d_ff},
                   {"hidden_act", activation_name(c.activation)},
                   {"hidden_dropout_prob", c.dropout},
                   {"attention_probs_dropout_prob", c.attention_dropout},
                   {"max_position_embeddings", c.max_len},
                   {"type_vocab_size", c.type_vocab},
                   {"layer_norm_eps", c.eps},
                   {"position_embedding_type", "absolute"},
                   {"tie_word_embeddings", true},
                   {"pad_token_id", c.pad_id}};
  if (type == "qkv_bert")
    json["qkv"] = {{"d_k", c.key_width()},
                   {"d_v", c.value_width()},
                   {"positions", c.positions},
                   {"attention", c.attention}};
  return json;
}

BertConfig bert_config_from_json(const io::Json& json, const std::string& where) {
  using namespace io;
  BertConfig c{.masked_lm = false, .pooler = false};
  const std::string type = get_string(json, "model_type", where);
  QKV_CHECK(type == "bert" || type == "qkv_bert", kUnsupported,
            "{}: model_type {} is not an encoder that qkv knows (bert, qkv_bert)", where, quote(type));
  QKV_CHECK(get_string_or(json, "position_embedding_type", "absolute", where) == "absolute", kUnsupported,
            "{}: position_embedding_type needs to be absolute", where);
  QKV_CHECK(!get_bool_or(json, "is_decoder", false, where), kUnsupported, "{}: is_decoder is not supported",
            where);
  QKV_CHECK(get_bool_or(json, "tie_word_embeddings", true, where), kUnsupported,
            "{}: tie_word_embeddings false is not supported", where);
  c.vocab_size = get_int_or(json, "vocab_size", c.vocab_size, 2, kMaxVocab, where);
  c.d_model = get_int_or(json, "hidden_size", c.d_model, 1, kMaxWidth, where);
  c.n_layers = get_int_or(json, "num_hidden_layers", c.n_layers, 1, kMaxLayers, where);
  c.n_heads = get_int_or(json, "num_attention_heads", c.n_heads, 1, kMaxWidth, where);
  c.d_ff = get_int_or(json, "intermediate_size", c.d_ff, 1, kMaxWidth * 4, where);
  c.dropout = get_number_or(json, "hidden_dropout_prob", c.dropout, 0, 1, where);
  c.attention_dropout = get_number_or(json, "attention_probs_dropout_prob", c.attention_dropout, 0, 1, where);
  c.max_len = get_int_or(json, "max_position_embeddings", c.max_len, 2, kMaxPositions, where);
  c.type_vocab = get_int_or(json, "type_vocab_size", c.type_vocab, 1, kMaxWidth, where);
  c.eps = get_number_or(json, "layer_norm_eps", c.eps, 0, 1, where);
  if (has(json, "pad_token_id", where))
    c.pad_id = static_cast<int32_t>(get_int(json, "pad_token_id", 0, c.vocab_size - 1, where));
  if (type == "qkv_bert") {
    const Json& own = get_object(json, "qkv", where);
    c.d_k = get_int(own, "d_k", 1, kMaxWidth, where);
    c.d_v = get_int(own, "d_v", 1, kMaxWidth, where);
    c.positions = get_string(own, "positions", where);
    c.attention = get_string(own, "attention", where);
  }
  check_file([&] {
    c.activation = activation_from_name(get_string_or(json, "hidden_act", "gelu", where), where);
    c.validate(where);
  });
  return c;
}

void save_bert(const Bert& model, const std::string& dir, const Precision& precision) {
  save_model_files(dir, model.parameters(), to_json(model.config()), precision, layout());
}

BertConfig load_bert_config(const std::string& dir) {
  return bert_config_from_json(read_model_config(dir), config_path(dir));
}

std::unique_ptr<Bert> load_bert(const std::string& dir, std::optional<Precision> only_runs) {
  BertConfig config = load_bert_config(dir);
  ModelWeights weights(dir, layout());
  config.pooler = weights.holds("bert.pooler.dense.weight");
  config.masked_lm = weights.holds("cls.predictions.transform.dense.weight");
  return load_weights_into<Bert>(config, weights, only_runs);
}

}  // namespace qkv
