#include "qkv/tasks/translation_model.h"

#include <cmath>
#include <cstring>

#include "qkv/io/json.h"
#include "qkv/io/testing.h"
#include "qkv/tasks/toy_model.h"
#include "qkv/tasks/translator.h"

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

// Files of 8 bits give what quantising the same weights as they are loaded gives.
TEST_F(ModelDirectory, InEightBitsRunsAsQuantisedOnTheWay) {
  const std::string small = folder_ / "small";
  test::toy_model().save(small, Precision(DType::kF32, /*in_int8=*/true));
  EXPECT_LT(std::filesystem::file_size(small + "/model.safetensors"),
            std::filesystem::file_size(folder_ / "model.safetensors"));
  const Precision int8(DType::kF32, true);
  const std::vector<std::string> lines = {"abc", "hello", "x y z"};
  const auto translated = [&](const std::string& dir, const Precision& precision) {
    std::vector<std::string> texts;
    std::vector<double> scores;
    const Translator translator(TranslationModel::load(dir, precision), {.precision = precision});
    for (const Translation& t : translator.translate(lines)) {
      texts.push_back(t.text());
      scores.push_back(t.n_best.at(0).score);
    }
    return std::pair(texts, scores);
  };
  const auto [texts, scores] = translated(small, int8);
  const auto [want, want_scores] = translated(folder_.path(), int8);
  EXPECT_EQ(texts, want);
  for (size_t i = 0; i < scores.size(); ++i) EXPECT_NEAR(scores[i], want_scores[i], 1e-5);
  // And they run in other precisions too: integers times their scales.
  EXPECT_EQ(translated(small, DType::kF32).first.size(), 3u);
}

TEST_F(ModelDirectory, InEightBitsNamesAMissingScaleAndOtherSchemes) {
  const std::string small = folder_ / "small", config = small + "/config.json";
  test::toy_model().save(small, Precision(DType::kF32, true));
  const std::string weights = io::testing::get(small + "/model.safetensors");
  std::string broken = weights;
  const size_t at = broken.find("fc1.weight_scale");
  ASSERT_NE(at, std::string::npos);
  broken.replace(at, 16, "fc1.weight_scalf");
  io::testing::put(small + "/model.safetensors", broken);
  EXPECT_ERROR(kFormat, "fc1.weight_scale", TranslationModel::load(small));
  io::testing::put(small + "/model.safetensors", weights);
  io::Json json = io::parse_json(io::testing::get(config), "config");
  json["quantization_config"]["quant_method"] = "gptq";
  io::testing::put(config, io::dump_json(json));
  EXPECT_ERROR(kUnsupported, "\"gptq\" \"int-quantized\" is not read; what is: compressed-tensors",
               TranslationModel::load(small));
}

TEST_F(ModelDirectory, InEightBitsNamesAScaleThatIsNone) {
  const std::string small = folder_ / "small", file = small + "/model.safetensors";
  const std::string weights = [&] {
    test::toy_model().save(small, Precision(DType::kF32, true));
    return io::testing::get(file);
  }();
  // Its numbers begin where the header says, after the header.
  const std::string name = "model.encoder.layers.0.fc1.weight_scale";
  uint64_t header = 0;
  std::memcpy(&header, weights.data(), sizeof(header));
  const io::Json described = io::parse_json(weights.substr(8, header), "header");
  const size_t at = 8 + header + described[name]["data_offsets"][0].get<size_t>() + sizeof(float);
  for (const float bad : {-1.0f, std::nanf(""), HUGE_VALF}) {
    std::string broken = weights;
    std::memcpy(broken.data() + at, &bad, sizeof(bad));
    io::testing::put(file, broken);
    EXPECT_ERROR(kFormat, name + ", row 1 is ", TranslationModel::load(small));
  }
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
