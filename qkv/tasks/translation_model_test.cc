#include "qkv/tasks/translation_model.h"

#include "qkv/io/json.h"
#include "qkv/io/testing.h"
#include "qkv/tasks/toy_model.h"

namespace qkv {
namespace {

class ModelDirectory : public ::testing::Test {
 protected:
  void SetUp() override { test::toy_model().save(folder_.path(), DType::kF32); }
  void put_tokenizer(const io::Json& json) { io::testing::put(tokenizer_, io::dump_json(json)); }
  io::testing::TemporaryFolder folder_;
  const std::string tokenizer_ = folder_ / "tokenizer.json";
};

TEST_F(ModelDirectory, ReadsBackWhatWasSaved) {
  const TranslationModel model = TranslationModel::load(folder_.path());
  EXPECT_EQ(model.source_tokenizer, model.target_tokenizer);
  EXPECT_EQ(model.source_tokenizer->to_json(), test::toy_model().source_tokenizer->to_json());
}

TEST_F(ModelDirectory, ATokenizerWithIdsBeyondTheEmbeddingIsNamedBeforeWeightsAreRead) {
  const io::Json good = io::parse_json(io::testing::get(tokenizer_), "toy");
  std::filesystem::remove(folder_ / "model.safetensors");
  io::Json json = good;
  for (io::Json& token : json["post_processor"]["special_tokens"]) token["ids"] = {1, 2000000000};
  put_tokenizer(json);
  EXPECT_ERROR(kFormat, tokenizer_ + ": has ids up to 2000000000, but the model's embedding has 259 rows",
               TranslationModel::load(folder_.path()));
  json = good;
  json["model"]["vocab"]["one more"] = 259;
  put_tokenizer(json);
  EXPECT_ERROR(kFormat, tokenizer_ + ": has ids up to 259", TranslationModel::load(folder_.path()));
  put_tokenizer(good);
  EXPECT_ERROR(kIo, "model.safetensors", TranslationModel::load(folder_.path()));
}

}  // namespace
}  // namespace qkv
