// BERT and GPT-2 from files of the public layouts: public_parity.txt, which public_parity.py wrote from the
// same weights; and what is read and written besides.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>

#include "qkv/io/atomic_file.h"
#include "qkv/io/testing.h"
#include "qkv/models/bert_files.h"
#include "qkv/models/gpt2_files.h"
#include "qkv/models/model_files.h"

namespace qkv {
namespace {

const std::vector<int32_t> kIds = {3, 7, 1, 12, 5}, kTypes = {0, 0, 0, 1, 1};
const Segments kText({5});

BertConfig bert_config() {
  return {.vocab_size = 13,
          .max_len = 8,
          .d_model = 8,
          .n_layers = 2,
          .n_heads = 2,
          .d_ff = 12,
          .masked_lm = true,
          .pooler = true};
}

Gpt2Config gpt2_config() {
  return {.vocab_size = 13, .max_len = 8, .d_model = 8, .n_layers = 2, .n_heads = 2, .d_ff = 12, .eos_id = 3};
}

// The script's noise().
std::vector<float> noise(const std::string& name, int64_t n) {
  uint32_t h = 2166136261u;
  for (const unsigned char c : name) h = (h ^ c) * 16777619u;
  const bool is_norm =
      (name.find("LayerNorm") != name.npos || name.find(".ln_") != name.npos) && name.ends_with("weight");
  std::vector<float> out;
  for (uint32_t i = 0; i < static_cast<uint32_t>(n); ++i) {
    uint32_t u = h + i * 2654435761u;
    u ^= u >> 15;
    u *= 2246822519u;
    u ^= u >> 13;
    out.push_back(static_cast<float>(0.5 * (u / 2147483648.0 - 1) + (is_norm ? 1 : 0)));
  }
  return out;
}

const std::vector<double>& expected(const std::string& model, const std::string& result) {
  static const auto all = [] {
    std::map<std::string, std::vector<double>> lines;
    std::ifstream file(QKV_SOURCE_DIR "/qkv/models/public_parity.txt");
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line);
      std::string m, r;
      words >> m >> r;
      for (double v; words >> v;) lines[m + " " + r].push_back(v);
    }
    return lines;
  }();
  return all.at(model + " " + result);
}

void expect_near(const Tensor& got, const std::vector<double>& wanted) {
  const std::vector<double> values = got.values();
  ASSERT_EQ(values.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(values[i], wanted[i], 2e-5) << i;
}

using Names = std::vector<std::pair<std::string, std::vector<int64_t>>>;

Names bert_tensors() {
  Names out = {{"bert.embeddings.word_embeddings.weight", {13, 8}},
               {"bert.embeddings.position_embeddings.weight", {8, 8}},
               {"bert.embeddings.token_type_embeddings.weight", {2, 8}},
               {"bert.embeddings.LayerNorm.weight", {8}},
               {"bert.embeddings.LayerNorm.bias", {8}},
               {"bert.pooler.dense.weight", {8, 8}},
               {"bert.pooler.dense.bias", {8}},
               {"cls.predictions.bias", {13}},
               {"cls.predictions.transform.dense.weight", {8, 8}},
               {"cls.predictions.transform.dense.bias", {8}},
               {"cls.predictions.transform.LayerNorm.weight", {8}},
               {"cls.predictions.transform.LayerNorm.bias", {8}}};
  for (const std::string p : {"bert.encoder.layer.0.", "bert.encoder.layer.1."}) {
    for (const char* part :
         {"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"})
      out.insert(out.end(), {{p + part + ".weight", {8, 8}}, {p + part + ".bias", {8}}});
    out.insert(out.end(), {{p + "intermediate.dense.weight", {12, 8}},
                           {p + "intermediate.dense.bias", {12}},
                           {p + "output.dense.weight", {8, 12}},
                           {p + "output.dense.bias", {8}}});
    for (const char* part : {"attention.output.LayerNorm", "output.LayerNorm"})
      out.insert(out.end(), {{p + part + ".weight", {8}}, {p + part + ".bias", {8}}});
  }
  return out;
}

Names gpt2_tensors() {
  Names out = {{"transformer.wte.weight", {13, 8}},
               {"transformer.wpe.weight", {8, 8}},
               {"transformer.ln_f.weight", {8}},
               {"transformer.ln_f.bias", {8}}};
  for (const std::string p : {"transformer.h.0.", "transformer.h.1."})
    out.insert(out.end(), {{p + "ln_1.weight", {8}},
                           {p + "ln_1.bias", {8}},
                           {p + "attn.c_attn.weight", {8, 24}},
                           {p + "attn.c_attn.bias", {24}},
                           {p + "attn.c_proj.weight", {8, 8}},
                           {p + "attn.c_proj.bias", {8}},
                           {p + "ln_2.weight", {8}},
                           {p + "ln_2.bias", {8}},
                           {p + "mlp.c_fc.weight", {8, 12}},
                           {p + "mlp.c_fc.bias", {12}},
                           {p + "mlp.c_proj.weight", {12, 8}},
                           {p + "mlp.c_proj.bias", {8}}});
  return out;
}

class PublicLayout : public ::testing::Test {
 protected:
  // A directory of these tensors, each under the name that `respell` makes of it.
  void put(
      const io::Json& config, const Names& names,
      const std::function<std::string(const std::string&)>& respell = [](const auto& n) { return n; }) {
    std::vector<std::vector<float>> values;
    std::vector<io::SafetensorsTensor> tensors;
    for (const auto& [name, shape] : names) {
      int64_t n = 1;
      for (const int64_t size : shape) n *= size;
      values.push_back(noise(name, n));
      tensors.push_back({.name = respell(name),
                         .dtype = "F32",
                         .shape = shape,
                         .data = std::as_bytes(std::span(values.back()))});
    }
    io::write_safetensors(folder_ / "model.safetensors", tensors);
    io::testing::put(folder_ / "config.json", io::dump_json(config));
  }
  std::vector<std::string> names_in_file() {
    const auto file = io::SafetensorsFile::open(folder_ / "model.safetensors");
    std::vector<std::string> names;
    for (const auto& t : file.tensors()) names.push_back(t.name);
    std::sort(names.begin(), names.end());
    return names;
  }
  void expect_bert(const Bert& model) {
    const NoGrad off;
    Pass pass = Pass::running(DType::kF32);
    const Var hidden = model(pass, kIds, kText, kTypes);
    expect_near(hidden.value(), expected("bert", "hidden"));
    if (model.config().pooler) expect_near(model.pool(hidden, kText).value(), expected("bert", "pooled"));
    if (model.config().masked_lm)
      expect_near(model.logits(model.predict(hidden)), expected("bert", "logits"));
  }
  void expect_gpt2(const Gpt2& model) {
    const NoGrad off;
    Pass pass = Pass::running(DType::kF32);
    const Var hidden = model(pass, kIds, kText);
    expect_near(hidden.value(), expected("gpt2", "hidden"));
    const Tensor logits = Tensor::empty({5, 13}, DType::kF32);
    matmul(hidden.value(), model.embedding()->packed_transposed(DType::kF32), logits);
    expect_near(logits, expected("gpt2", "logits"));
  }
  io::testing::TemporaryFolder folder_;
};

TEST_F(PublicLayout, BertComputesWhatItsPublicWeightsMean) {
  put(to_json(bert_config()), bert_tensors());
  const auto model = load_bert(folder_.path());
  expect_bert(*model);
  const std::vector<std::string> before = names_in_file();
  save_bert(*model, folder_.path());
  EXPECT_EQ(names_in_file(), before);
  expect_bert(*load_bert(folder_.path()));
}

TEST_F(PublicLayout, Gpt2ComputesWhatItsPublicWeightsMean) {
  put(to_json(gpt2_config()), gpt2_tensors());
  const auto model = load_gpt2(folder_.path());
  expect_gpt2(*model);
  EXPECT_EQ(model->config().eos_id, 3);
  const std::vector<std::string> before = names_in_file();
  save_gpt2(*model, folder_.path());
  EXPECT_EQ(names_in_file(), before);
  expect_gpt2(*load_gpt2(folder_.path()));
}

// The encoder alone, its names without the prefix and the norms' of 2018; with what others keep besides.
TEST_F(PublicLayout, OtherSpellingsAreUnderstood) {
  Names names;
  for (const auto& each : bert_tensors())
    if (each.first.find("pooler") == std::string::npos && !each.first.starts_with("cls."))
      names.push_back(each);
  names.emplace_back("bert.embeddings.position_ids", std::vector<int64_t>{1, 8});
  io::Json config = to_json(bert_config());
  config["architectures"] = {"BertModel"};
  config.erase("pad_token_id");
  put(config, names, [](std::string name) {
    name.erase(0, 5);
    for (const auto& [now, then] :
         {std::pair{"LayerNorm.weight", "LayerNorm.gamma"}, {"LayerNorm.bias", "LayerNorm.beta"}})
      if (const size_t at = name.find(now); at != name.npos) name.replace(at, std::strlen(now), then);
    return name;
  });
  const auto bert = load_bert(folder_.path());
  EXPECT_FALSE(bert->config().pooler || bert->config().masked_lm);
  expect_bert(*bert);

  names = gpt2_tensors();
  names.emplace_back("transformer.h.0.attn.bias", std::vector<int64_t>{1, 1, 8, 8});
  put(to_json(gpt2_config()), names, [](std::string name) { return name.erase(0, 12); });
  expect_gpt2(*load_gpt2(folder_.path()));
}

// What no public architecture computes comes back too, under a name that other tools refuse.
TEST_F(PublicLayout, OwnChoicesComeBackUnderANameOfTheirOwn) {
  const NoGrad off;
  Pass pass = Pass::running(DType::kF32);
  BertConfig b = bert_config();
  b.attention = "qk_norm + shaw:3";
  b.positions = "none";
  b.d_k = 3;
  b.d_v = 5;
  b.eps = 1e-6;
  const Bert bert(b, 5);
  save_bert(bert, folder_.path());
  EXPECT_EQ(read_model_config(folder_.path())["model_type"], "qkv_bert");
  EXPECT_EQ((*load_bert(folder_.path()))(pass, kIds, kText).value().values(),
            bert(pass, kIds, kText).value().values());
  Gpt2Config g = gpt2_config();
  g.attention = "rope + sink";
  g.positions = "none";
  g.d_k = 4;
  g.d_v = 6;
  const Gpt2 gpt2(g, 5);
  save_gpt2(gpt2, folder_.path(), DType::kBF16);
  EXPECT_EQ(read_model_config(folder_.path())["model_type"], "qkv_gpt2");
  const auto again = load_gpt2(folder_.path());
  for (const ParameterPtr& p : gpt2.parameters().all())
    EXPECT_EQ(again->parameters().find(p->name())->value().values(), p->value().to(DType::kBF16).values())
        << p->name();
}

TEST_F(PublicLayout, WhatDoesNotFitIsNamed) {
  io::Json config = to_json(gpt2_config());
  put(config, gpt2_tensors());
  config["n_inner"] = 16;
  io::testing::put(folder_ / "config.json", io::dump_json(config));
  EXPECT_ERROR(kFormat, "transformer.h.0.mlp.c_fc.weight is [8, 12], config.json makes it [8, 16]",
               load_gpt2(folder_.path()));
  config = to_json(gpt2_config());
  config["n_head"] = 3;
  io::testing::put(folder_ / "config.json", io::dump_json(config));
  EXPECT_ERROR(kFormat, "config.json: n_heads (3) does not divide d_model (8)", load_gpt2(folder_.path()));
  config["model_type"] = "llama";
  io::testing::put(folder_ / "config.json", io::dump_json(config));
  EXPECT_ERROR(kUnsupported, "model_type \"llama\" is not a decoder", load_gpt2(folder_.path()));
  EXPECT_ERROR(kUnsupported, "is not an encoder that qkv knows", load_bert(folder_.path()));

  Names more = bert_tensors();
  more.emplace_back("classifier.weight", std::vector<int64_t>{2, 8});
  put(to_json(bert_config()), more);
  EXPECT_ERROR(kFormat, "tensor \"classifier.weight\" has no place", load_bert(folder_.path()));
  Names fewer = bert_tensors();
  fewer.erase(fewer.begin());
  put(to_json(bert_config()), fewer);
  EXPECT_ERROR(kFormat, "bert.embeddings.word_embeddings.weight", load_bert(folder_.path()));
}

// A random BERT of another maker, with what a float64 forward pass makes of it (shared/data/README.md,
// Weights).
TEST(PublicWeights, ATinyBertGivesTheStoredVectors) {
  const char* set = std::getenv("QKV_DATA");
  const std::string dir =
      (set ? std::string(set) : QKV_SOURCE_DIR "/../shared/data") + "/weights/tiny-bert-random";
  if (!io::exists(dir + "/model.safetensors")) GTEST_SKIP() << dir << " is not here; set QKV_DATA";
  const NoGrad off;
  const auto model = load_bert(dir);
  const io::Json cases = io::read_json(dir + "/tiny-bert-random.expected.json");
  ASSERT_EQ(cases.size(), 4u);
  for (const io::Json& one : cases) {
    // Padding is left out: packed rows need none, and no other row sees it.
    std::vector<int32_t> ids, types;
    for (size_t i = 0; i < one["ids"].size(); ++i)
      if (one["mask"][i] == 1) {
        ids.push_back(one["ids"][i]);
        types.push_back(one["type_ids"][i]);
      }
    Pass pass = Pass::running(DType::kF32);
    const auto n = static_cast<int64_t>(ids.size());
    const Tensor hidden = model->operator()(pass, ids, Segments({n}), types).value();
    std::vector<double> mean(32);
    for (int64_t r = 0; r < n; ++r)
      for (int64_t d = 0; d < 32; ++d)
        mean[static_cast<size_t>(d)] += hidden.at({r, d}) / static_cast<double>(n);
    expect_near(hidden.rows(0, 1), one["first_token"]);
    expect_near(Tensor::from({32}, mean, DType::kF32), one["mean_pooled"]);
    if (ids.size() == one["ids"].size()) expect_near(hidden.rows(n - 1, n), one["last_token"]);
  }
}

}  // namespace
}  // namespace qkv
