#include "qkv/models/transformer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "qkv/attention/heads/head_controls.h"
#include "qkv/autograd/gradcheck.h"
#include "qkv/autograd/ops/cross_entropy.h"
#include "qkv/base/parallel.h"
#include "qkv/io/safetensors.h"
#include "qkv/models/transformer_files.h"

namespace qkv {
namespace {

TransformerConfig tiny() {
  return {.vocab_size = 11,
          .d_model = 8,
          .d_ff = 12,
          .encoder_layers = 2,
          .decoder_layers = 2,
          .n_heads = 2,
          .max_len = 32,
          .dropout = 0};
}

const std::vector<int32_t> kSource = {3, 4, 5, 1, 6, 7, 1}, kTarget = {0, 8, 9, 0, 10, 3, 4};
const Segments kSourceRows({4, 3}), kTargetRows({3, 4});

Var decode_all(const Transformer& model, Pass& pass) {
  return model.decode(pass, kTarget, kTargetRows, model.encode(pass, kSource, kSourceRows), kSourceRows);
}

// Every variant of the model, differentiated through all its parts at once.
TEST(Transformer, GradientsOfAllParametersAreRight) {
  std::vector<TransformerConfig> configs(12, tiny());
  configs[1].pre_norm = true;
  configs[1].stochastic_depth = 0.4;
  configs[2].positions = "learned";
  configs[3].cross_attention = "general";
  configs[4].cross_attention = configs[4].encoder_attention = configs[4].decoder_attention = "additive";
  configs[5].cross_attention = "mlp";
  configs[6].cross_attention = "uniform";
  configs[7].n_kv_heads = 1;
  configs[7].d_k = 3;
  configs[7].d_v = 5;
  configs[7].target_vocab_size = 11;
  configs[7].tie_output = false;
  configs[7].dropout = configs[7].attention_dropout = configs[7].activation_dropout = 0.2;
  for (const auto& [i, words] : {std::pair{8, "qk_norm + rope + sink"},
                                 {9, "dot + t5:8:20 + window:3"},
                                 {10, "transformer_xl + soft_cap:4"},
                                 {11, "rope + talking_heads + head_scale"}}) {
    configs[i].positions = "none";
    configs[i].encoder_attention = configs[i].decoder_attention = words;
  }
  for (TransformerConfig& c : configs) {
    c.encoder_layers = c.decoder_layers = 1;
    const Transformer model(c, 3, DType::kF64);
    EXPECT_EQ(gradcheck(
                  [&](const auto&) {
                    Pass pass = Pass::training(DType::kF64, 1, 1);
                    return decode_all(model, pass);
                  },
                  {}, model.parameters().all()),
              "")
        << c.encoder_attention << ", " << c.cross_attention << " pre " << c.pre_norm << " positions "
        << c.positions;
  }
}

TEST(Transformer, StochasticDepthSkipsWholeLayersOfASentenceInTrainingAlone) {
  TransformerConfig plain = tiny(), deep = tiny();
  plain.pre_norm = deep.pre_norm = true;
  deep.stochastic_depth = 0.999;
  plain.encoder_layers = deep.encoder_layers = 1;
  const Transformer a(plain, 3), b(deep, 3);
  NoGrad off;
  Pass run_a = Pass::running(DType::kF32), run_b = run_a;
  EXPECT_EQ(decode_all(a, run_a).value().values(), decode_all(b, run_b).value().values());
  // The only encoder layer is the last: with its sub-layers left out, rows are their normed embeddings, and
  // the two <eos> at the ends differ by their places alone.
  TransformerConfig places = deep;
  places.positions = "none";
  const Transformer c(places, 3);
  Pass training = Pass::training(DType::kF32, 1, 1);
  const Tensor memory = c.encode(training, kSource, kSourceRows).value();
  EXPECT_EQ(memory.rows(3, 4).values(), memory.rows(6, 7).values());
  Pass running = Pass::running(DType::kF32);
  const Tensor whole = c.encode(running, kSource, kSourceRows).value();
  EXPECT_NE(whole.rows(3, 4).values(), whole.rows(6, 7).values());
}

// Running token by token from a cache gives what teacher forcing gives, with several hypotheses to a sentence
// and hypotheses that move between rows.
TEST(Transformer, RunsStepByStepAsItTrains) {
  for (const char* words : {"scaled_dot", "general", "additive", "mlp", "uniform", "cosine + rope + window:2",
                            "shaw:1", "transformer_xl", "learned_alibi + sparsemax"})
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      NoGrad off;
      TransformerConfig c = tiny();
      c.d_model = 64;
      c.decoder_attention = words;
      if (has_positions(words))
        c.positions = "none";
      else
        c.cross_attention = words;
      const Transformer model(c, 5);
      Pass pass = Pass::running(dtype);
      const Var memory = model.encode(pass, kSource, kSourceRows);
      const std::vector<double> expected =
          model.decode(pass, kTarget, kTargetRows, memory, kSourceRows).value().values();

      DecoderState state = model.start(pass, memory, kSourceRows);
      std::vector<std::vector<double>> rows;
      // Rows: sentence 0, sentence 1; then sentence 1 is doubled, and sentence 0 leaves after its three
      // tokens.
      for (int64_t t = 0; t < 4; ++t) {
        if (t == 1) model.select(state, {0, 1, 1});
        if (t == 3) model.select(state, {2, 1});
        std::vector<int32_t> ids;
        if (t < 3) ids.push_back(kTarget[t]);
        for (size_t i = ids.size(); i < state.sentence_of_row.size(); ++i) ids.push_back(kTarget[3 + t]);
        const Tensor h = model.step(pass, ids, state).value();
        for (int64_t r = 0; r < h.size(0); ++r) {
          const int64_t at = (t < 3 && r == 0 ? t : 3 + t) * 64;
          const std::vector<double> got = h.rows(r, r + 1).values();
          for (int64_t d = 0; d < 64; ++d)
            EXPECT_EQ(got[d], expected[at + d]) << words << " step " << t << " row " << r;
        }
      }
    }
}

TEST(Transformer, ASentenceDoesNotDependOnItsBatch) {
  NoGrad off;
  TransformerConfig c = tiny();
  c.d_model = 64;
  const Transformer model(c, 5);
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    Pass pass = Pass::running(dtype);
    const std::vector<double> both = model.encode(pass, kSource, kSourceRows).value().values();
    const std::vector<double> second = model.encode(pass, {6, 7, 1}, Segments({3})).value().values();
    EXPECT_TRUE(std::equal(second.begin(), second.end(), both.begin() + 4 * 64));
  }
}

TEST(Transformer, TheFutureDoesNotLeak) {
  NoGrad off;
  const Transformer model(tiny(), 5);
  Pass pass = Pass::running(DType::kF32);
  const Var memory = model.encode(pass, kSource, kSourceRows);
  const auto a = model.decode(pass, kTarget, kTargetRows, memory, kSourceRows).value().values();
  std::vector<int32_t> changed = kTarget;
  changed[2] = 5;  // the last token of the first sentence
  const auto b = model.decode(pass, changed, kTargetRows, memory, kSourceRows).value().values();
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i] == b[i], i / 8 != 2) << i;
}

TEST(Transformer, AProbeSeesEveryCrossAttentionWithoutChangingTheResult) {
  NoGrad off;
  const Transformer model(tiny(), 5);
  Pass pass = Pass::running(DType::kF32);
  const auto plain = decode_all(model, pass).value().values();
  Probe probe{.sites = {"cross"}};
  const Var memory = model.encode(pass, kSource, kSourceRows);
  EXPECT_EQ(model.decode(pass, kTarget, kTargetRows, memory, kSourceRows, &probe).value().values(), plain);
  EXPECT_EQ(probe.rows.size(), 2u * 2u * 7u);
  for (const AttentionRow& row : probe.rows) {
    double sum = 0;
    for (float w : row.attn_weights) sum += w;
    EXPECT_NEAR(sum, 1, 1e-5);
  }
}

// A head that is off says nothing, in a prompt and step by step; gates of 1 change no bit.
TEST(Transformer, HeadsCanBeSwitchedInEveryLayerOfEverySite) {
  NoGrad off;
  const Transformer model(tiny(), 5);
  Pass pass = Pass::running(DType::kF32);
  const auto plain = decode_all(model, pass).value().values();
  for (const char* site : {"encoder", "decoder", "cross"})
    for (int64_t layer : {0, 1}) {
      HeadControls controls{.layers = {{.site = site, .layer = layer, .gates = head_gates("g", 2)}}};
      Probe probe{.sites = {"nothing"}, .controls = &controls};
      const auto run = [&] {
        const Var memory = model.encode(pass, kSource, kSourceRows, &probe);
        return model.decode(pass, kTarget, kTargetRows, memory, kSourceRows, &probe).value().values();
      };
      EXPECT_EQ(run(), plain) << site << layer;
      controls.layers[0].gates->value().fill(0);
      EXPECT_NE(run(), plain) << site << layer;
    }
}

class TransformerFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = std::filesystem::temp_directory_path() / ("qkv-transformer-" + std::to_string(::getpid()));
    std::filesystem::remove_all(dir_);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::string message(const std::function<void()>& f) {
    try {
      f();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }
  std::filesystem::path dir_;
};

TEST_F(TransformerFiles, ComeBackAsTheyWere) {
  NoGrad off;
  for (bool pre : {false, true}) {
    TransformerConfig c = tiny();
    c.pre_norm = pre;
    c.cross_attention = pre ? "mlp" : "scaled_dot";
    c.encoder_attention = pre ? "t5 + window:3|global:1" : "scaled_dot";
    c.positions = pre ? "none" : "sinusoidal";
    const Transformer model(c, 5);
    save_transformer(model, dir_);
    const auto again = load_transformer(dir_);
    Pass pass = Pass::running(DType::kF32);
    EXPECT_EQ(decode_all(*again, pass).value().values(), decode_all(model, pass).value().values());
    EXPECT_EQ(public_model_type(again->config()), pre ? "qkv_transformer" : "marian");
    std::filesystem::remove_all(dir_);
  }
}

TEST_F(TransformerFiles, DamagedAndMismatchedPartsAreNamed) {
  const Transformer model(tiny(), 5);
  save_transformer(model, dir_);
  const std::string config = dir_ / "config.json", weights = dir_ / "model.safetensors";
  const auto load = [&] { load_transformer(dir_); };

  TransformerConfig other = tiny();
  other.d_ff = 16;
  std::ofstream(config) << io::dump_json(to_json(other));
  EXPECT_NE(message(load).find("model.encoder.layers.0.fc1.weight is [12, 8], config.json makes it [16, 8]"),
            std::string::npos)
      << message(load);
  other = tiny();
  other.decoder_layers = 1;
  std::ofstream(config) << io::dump_json(to_json(other));
  EXPECT_NE(message(load).find("has no place in the model"), std::string::npos) << message(load);
  std::ofstream(config) << "{\"model_type\": \"bert\"}";
  EXPECT_NE(message(load).find("model_type \"bert\""), std::string::npos) << message(load);

  // A name from a file cannot speak to the terminal.
  std::ofstream(config) << R"({"model_type": "\u001b[2J\nall is well"})";
  EXPECT_NE(message(load).find(R"(model_type "\u001b[2J\nall is well")"), std::string::npos) << message(load);
  other = tiny();
  other.cross_attention = "\x1b[2J\n";
  EXPECT_NE(message([&] { other.validate("x"); }).find(R"(called "\u001b[2J\n")"), std::string::npos);

  std::ofstream(config) << io::dump_json(to_json(tiny()));
  {
    const auto file = io::SafetensorsFile::open(weights);
    std::vector<io::SafetensorsTensor> more(file.tensors().begin(), file.tensors().end());
    more.push_back({.name = "\x1b[2J\n", .dtype = "U8", .shape = {0}, .data = {}});
    io::write_safetensors(dir_ / "more", more, {});
    std::filesystem::rename(weights, dir_ / "kept");
    std::filesystem::rename(dir_ / "more", weights);
    EXPECT_NE(message(load).find(R"(tensor "\u001b[2J\n" has no place)"), std::string::npos) << message(load);
    std::filesystem::rename(dir_ / "kept", weights);
  }
  std::filesystem::resize_file(weights, std::filesystem::file_size(weights) - 5);
  EXPECT_NE(message(load).find("model.safetensors"), std::string::npos) << message(load);
  std::filesystem::remove(weights);
  EXPECT_NE(message(load).find("model.safetensors"), std::string::npos) << message(load);
  EXPECT_NE(message([&] { load_transformer(dir_ / "nowhere"); }).find("no such directory"),
            std::string::npos);
}

TEST(TransformerConfig, SaysWhatDoesNotFit) {
  TransformerConfig c = tiny();
  c.n_heads = 3;
  try {
    c.validate();
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()),
              "transformer: n_heads (3) does not divide d_model (8); choose another, or give d_k and d_v");
  }
}

}  // namespace
}  // namespace qkv
