// Ids and texts against Hugging Face's tokenizers 0.22.2 (shared/data/README.md, Tokenizers): 222 strings
// each, from empty text to random Unicode. Special text inside a string counts as special there.

#include <gtest/gtest.h>

#include <cstdlib>

#include "qkv/io/file.h"
#include "qkv/io/json.h"
#include "qkv/text/tokenizer.h"

namespace qkv {
namespace {

std::string data_folder() {
  const char* set = std::getenv("QKV_DATA");
  return set ? set : QKV_SOURCE_DIR "/../shared/data";
}

class Oracle : public testing::TestWithParam<const char*> {};

TEST_P(Oracle, IdsAndTextsAreThoseOfTheReference) {
  const std::string folder = data_folder() + "/tokenizers/" + GetParam();
  if (!io::exists(folder + "/tokenizer.json.gz")) GTEST_SKIP() << folder << " is not here; set QKV_DATA";
  const Tokenizer tokenizer = Tokenizer::load(folder + "/tokenizer.json.gz");
  const std::string lines = io::read_file(folder + "/expected.jsonl", 64 << 20);

  int64_t cases = 0, wrong = 0;
  for (size_t begin = 0; begin < lines.size();) {
    const size_t end = std::min(lines.find('\n', begin), lines.size());
    const io::Json one = io::parse_json(std::string_view(lines).substr(begin, end - begin), "expected.jsonl");
    begin = end + 1;
    ++cases;
    const auto text = one["text"].get<std::string>();
    const auto ids = tokenizer.encode(text, {.parse_special = true});
    const auto bare = tokenizer.encode(text, {.add_special_tokens = false, .parse_special = true});
    if (ids == one["ids"].get<std::vector<int32_t>>() &&
        bare == one["ids_no_special"].get<std::vector<int32_t>>() &&
        tokenizer.decode(bare, /*skip_special_tokens=*/false) == one["decoded"].get<std::string>())
      continue;
    if (++wrong <= 3)
      ADD_FAILURE() << one.dump() << "\ngot " << io::Json(ids).dump() << "\nno special "
                    << io::Json(bare).dump() << "\ndecoded "
                    << io::Json(tokenizer.decode(bare, false)).dump();
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(cases, 222);
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, Oracle,
                         testing::Values("gpt2", "llama3", "qwen3", "o200k", "deepseek-v3", "mistral-v1"),
                         [](const auto& each) {
                           std::string name = each.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace qkv
