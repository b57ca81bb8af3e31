#include "qkv/tasks/translation_model.h"

#include "qkv/base/cpu.h"
#include "qkv/io/atomic_file.h"
#include "qkv/io/file.h"
#include "qkv/io/json.h"
#include "qkv/models/transformer_files.h"

namespace qkv {
namespace {

void check_fit(const Tokenizer& tokenizer, int64_t rows, int32_t eos, const std::string& path) {
  QKV_CHECK(tokenizer.max_emitted_id() < rows, kFormat,
            "{}: has ids up to {}, but the model's embedding has {} rows; are they of one model?", path,
            tokenizer.max_emitted_id(), rows);
  QKV_CHECK(tokenizer.is_special(eos), kFormat,
            "{}: id {}, config.json's eos_token_id, is not a special token here; are they of one model?",
            path, eos);
  QKV_CHECK(tokenizer.id_of("<unk>") != eos, kFormat,
            "{}: id {}, config.json's eos_token_id, is <unk> here; are they of one model?", path, eos);
}

// What the Transformers library's AutoTokenizer and generate() need to be told beside what qkv reads
// (docs/formats.md).
void save_for_transformers(const TranslationModel& model, const std::string& dir) {
  const TransformerConfig& c = model.transformer->config();
  const Tokenizer& tokenizer = *model.source_tokenizer;
  io::Json words = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                    {"model_input_names", {"input_ids", "attention_mask"}},
                    {"model_max_length", c.max_len},
                    {"clean_up_tokenization_spaces", false},
                    {"pad_token", tokenizer.piece(c.pad_id)},
                    {"eos_token", tokenizer.piece(c.eos_id)}};
  if (tokenizer.id_of("<unk>")) words["unk_token"] = "<unk>";
  const io::Json search = {{"num_beams", 5},
                           {"early_stopping", true},
                           {"length_penalty", 1.0},
                           {"max_length", c.max_len},
                           {"bad_words_ids", io::Json::array({io::Json::array({c.pad_id})})},
                           {"decoder_start_token_id", c.start_id},
                           {"pad_token_id", c.pad_id},
                           {"eos_token_id", c.eos_id},
                           {"forced_eos_token_id", c.eos_id}};
  io::write_file_atomically(dir + "/tokenizer_config.json", io::dump_json(words, 2) + "\n");
  io::write_file_atomically(dir + "/generation_config.json", io::dump_json(search, 2) + "\n");
}

}  // namespace

std::string resolve_model_directory(const std::string& dir) {
  const std::string summary = dir + "/summary.json";
  if (io::exists(dir + "/config.json")) return dir;
  if (io::exists(summary)) {
    const std::string chosen = io::get_string(io::read_json(summary), "chosen", summary);
    QKV_CHECK(chosen == "best" || chosen == "last" || chosen == "average" || chosen == "ema", kFormat,
              "{}: chosen is not best, last, average or ema", summary);
    return dir + "/" + chosen;
  }
  if (io::exists(dir + "/best/config.json")) return dir + "/best";  // a run that is still under way
  return dir;
}

TranslationModel TranslationModel::load(const std::string& given) {
  const std::string dir = resolve_model_directory(given);
  TranslationModel model;
  // The weights last: what does not fit is seen before they take time and memory.
  const TransformerConfig config = load_transformer_config(dir);
  const std::string source_path = dir + "/tokenizer.json", target_path = dir + "/target_tokenizer.json";
  (void)io::file_size(source_path);  // a pipe by that name would wait for its writer
  model.source_tokenizer = std::make_shared<Tokenizer>(Tokenizer::load(source_path));
  check_fit(*model.source_tokenizer, config.source_vocab(), config.eos_id, source_path);
  if (config.shared_vocab()) {
    model.target_tokenizer = model.source_tokenizer;
  } else {
    (void)io::file_size(target_path);
    model.target_tokenizer = std::make_shared<Tokenizer>(Tokenizer::load(target_path));
    check_fit(*model.target_tokenizer, config.target_vocab(), config.eos_id, target_path);
  }
  model.transformer = load_transformer(dir, config);
  return model;
}

void TranslationModel::save(const std::string& dir, DType dtype) const {
  io::make_directories(dir);
  source_tokenizer->save(dir + "/tokenizer.json");
  if (target_tokenizer != source_tokenizer) target_tokenizer->save(dir + "/target_tokenizer.json");
  if (public_model_type(transformer->config()) != "qkv_transformer") save_for_transformers(*this, dir);
  save_transformer(*transformer, dir, dtype);
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

}  // namespace qkv
