#include "qkv/tasks/language_models.h"

#include <fmt/ranges.h>

#include <vector>

#include "qkv/models/bert_files.h"
#include "qkv/models/gpt2_files.h"
#include "qkv/tasks/model_directory.h"

namespace qkv {
namespace {

int32_t first_of(const Tokenizer& tokenizer, const std::vector<std::string>& pieces, const char* what) {
  for (const std::string& piece : pieces)
    if (const auto id = tokenizer.id_of(piece)) return *id;
  throw_error(ErrorCode::kFormat, "tokenizer: has no token that {}; one of {} is needed", what,
              fmt::join(pieces, ", "));
}

std::string piece(const Tokenizer& tokenizer, int32_t id) { return std::string(tokenizer.piece(id)); }

}  // namespace

int32_t end_of_text(const Tokenizer& tokenizer) {
  return first_of(tokenizer, {"<|endoftext|>", "<|end_of_text|>", "</s>", "[SEP]"}, "ends a text");
}

BertTokens bert_tokens(const Tokenizer& tokenizer) {
  return {.cls = first_of(tokenizer, {"[CLS]", "<s>"}, "begins a text"),
          .sep = first_of(tokenizer, {"[SEP]", "</s>"}, "ends a text"),
          .mask = first_of(tokenizer, {"[MASK]", "<mask>"}, "hides a word"),
          .pad = first_of(tokenizer, {"[PAD]", "<pad>"}, "fills up")};
}

LanguageModel LanguageModel::load(const std::string& given, std::optional<Precision> only_runs) {
  const std::string dir = resolve_model_directory(given);
  // The weights last: what does not fit is seen before they take time and memory.
  auto tokenizer = load_tokenizer(dir + "/tokenizer.json", load_gpt2_config(dir).vocab_size);
  return {.gpt2 = load_gpt2(dir, only_runs), .tokenizer = std::move(tokenizer)};
}

void LanguageModel::save(const std::string& dir, const Precision& precision) const {
  save_gpt2(*gpt2, dir, precision);
  tokenizer->save(dir + "/tokenizer.json");
  const std::string end = piece(*tokenizer, gpt2->config().eos_id);
  save_tokenizer_config(dir, gpt2->config().max_len,
                        {{"bos_token", end}, {"eos_token", end}, {"unk_token", end}});
}

MaskedLanguageModel MaskedLanguageModel::load(const std::string& given, std::optional<Precision> only_runs) {
  const std::string dir = resolve_model_directory(given);
  auto tokenizer = load_tokenizer(dir + "/tokenizer.json", load_bert_config(dir).vocab_size);
  return {.bert = load_bert(dir, only_runs), .tokenizer = std::move(tokenizer)};
}

void MaskedLanguageModel::save(const std::string& dir, const Precision& precision) const {
  save_bert(*bert, dir, precision);
  tokenizer->save(dir + "/tokenizer.json");
  const BertTokens tokens = bert_tokens(*tokenizer);
  save_tokenizer_config(dir, bert->config().max_len,
                        {{"cls_token", piece(*tokenizer, tokens.cls)},
                         {"sep_token", piece(*tokenizer, tokens.sep)},
                         {"mask_token", piece(*tokenizer, tokens.mask)},
                         {"pad_token", piece(*tokenizer, tokens.pad)}});
}

}  // namespace qkv
