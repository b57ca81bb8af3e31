#include "qkv/tasks/model_directory.h"

#include "qkv/base/error.h"
#include "qkv/io/atomic_file.h"
#include "qkv/io/file.h"
#include "qkv/io/json.h"

namespace qkv {

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

std::shared_ptr<Tokenizer> load_tokenizer(const std::string& path, int64_t n_rows) {
  (void)io::file_size(path);  // a pipe by that name would wait for its writer
  auto tokenizer = std::make_shared<Tokenizer>(Tokenizer::load(path));
  QKV_CHECK(tokenizer->max_emitted_id() < n_rows, kFormat,
            "{}: has ids up to {}, but the model's embedding has {} rows; are they of one model?", path,
            tokenizer->max_emitted_id(), n_rows);
  return tokenizer;
}

void save_tokenizer_config(const std::string& dir, int64_t max_len,
                           const std::map<std::string, std::string>& special_tokens) {
  io::Json words = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                    {"model_input_names", {"input_ids", "attention_mask"}},
                    {"model_max_length", max_len},
                    {"clean_up_tokenization_spaces", false}};
  for (const auto& [key, piece] : special_tokens) words[key] = piece;
  io::write_file_atomically(dir + "/tokenizer_config.json", io::dump_json(words, 2) + "\n");
}

}  // namespace qkv
