#include "qkv/tasks/translation_model.h"

#include "qkv/base/cpu.h"
#include "qkv/io/atomic_file.h"
#include "qkv/io/file.h"
#include "qkv/io/json.h"
#include "qkv/models/model_files.h"
#include "qkv/models/transformer_files.h"
#include "qkv/tasks/model_directory.h"

namespace qkv {
namespace {

std::shared_ptr<Tokenizer> load_with_end(const std::string& path, int64_t n_rows, int32_t eos) {
  std::shared_ptr<Tokenizer> tokenizer = load_tokenizer(path, n_rows);
  QKV_CHECK(tokenizer->is_special(eos), kFormat,
            "{}: id {}, config.json's eos_token_id, is not a special token here; are they of one model?",
            path, eos);
  QKV_CHECK(tokenizer->id_of("<unk>") != eos, kFormat,
            "{}: id {}, config.json's eos_token_id, is <unk> here; are they of one model?", path, eos);
  return tokenizer;
}

// What the Transformers library's AutoTokenizer and generate() need to be told beside what qkv reads
// (docs/formats.md).
void save_for_transformers(const TranslationModel& model, const std::string& dir) {
  const TransformerConfig& c = model.transformer->config();
  const Tokenizer& tokenizer = *model.source_tokenizer;
  std::map<std::string, std::string> words = {{"pad_token", std::string(tokenizer.piece(c.pad_id))},
                                              {"eos_token", std::string(tokenizer.piece(c.eos_id))}};
  if (tokenizer.id_of("<unk>")) words["unk_token"] = "<unk>";
  save_tokenizer_config(dir, c.max_len, words);
  const io::Json search = {{"num_beams", 5},
                           {"early_stopping", true},
                           {"length_penalty", 1.0},
                           {"max_length", c.max_len},
                           {"bad_words_ids", io::Json::array({io::Json::array({c.pad_id})})},
                           {"decoder_start_token_id", c.start_id},
                           {"pad_token_id", c.pad_id},
                           {"eos_token_id", c.eos_id},
                           {"forced_eos_token_id", c.eos_id}};
  io::write_file_atomically(dir + "/generation_config.json", io::dump_json(search, 2) + "\n");
}

}  // namespace

TranslationModel TranslationModel::load(const std::string& given, std::optional<Precision> only_runs) {
  const std::string dir = resolve_model_directory(given);
  TranslationModel model;
  // The weights last: what does not fit is seen before they take time and memory.
  const TransformerConfig config = load_transformer_config(dir);
  model.source_tokenizer = load_with_end(dir + "/tokenizer.json", config.source_vocab(), config.eos_id);
  model.target_tokenizer = config.shared_vocab() ? model.source_tokenizer
                                                 : load_with_end(dir + "/target_tokenizer.json",
                                                                 config.target_vocab(), config.eos_id);
  model.transformer = load_transformer(dir, config, only_runs);
  return model;
}

void TranslationModel::save(const std::string& dir, const Precision& precision) const {
  io::make_directories(dir);
  source_tokenizer->save(dir + "/tokenizer.json");
  if (target_tokenizer != source_tokenizer) target_tokenizer->save(dir + "/target_tokenizer.json");
  if (public_model_type(transformer->config()) != "qkv_transformer") save_for_transformers(*this, dir);
  save_transformer(*transformer, dir, precision);
}

DType default_compute_dtype() {
  // AMX, or a bf16 dot product that beats f32 (base/cpu.h). Elsewhere bf16 would be widened to f32 for every
  // product.
  const bool fast = isa() >= Isa::kAmx || (isa() >= Isa::kAvx512 && cpu_features().fast_bf16_dot);
  return fast ? DType::kBF16 : DType::kF32;
}

DType compute_dtype_from_name(std::string_view name) {
  if (name == "auto") return default_compute_dtype();
  QKV_CHECK(name == "bf16" || name == "f32", kValue, "dtype: '{}' is not one of bf16, f32, auto", name);
  return dtype_from_name(name);
}

Precision precision_from_name(std::string_view name) {
  if (name == "int8") return {default_compute_dtype(), true};
  QKV_CHECK(name == "auto" || name == "bf16" || name == "f32", kValue,
            "dtype: '{}' is not one of bf16, f32, int8, auto", name);
  return compute_dtype_from_name(name);
}

Precision precision_for(std::string_view name, const std::string& model) {
  if (name != "auto") return precision_from_name(name);
  const std::string dir = resolve_model_directory(model);
  return precision_from_name(is_in_int8(read_model_config(dir), config_path(dir)) ? "int8" : "auto");
}

}  // namespace qkv
