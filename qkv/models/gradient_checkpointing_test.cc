// Training with gradient checkpointing (autograd/recompute.h) is training without it, in less memory.

#include <gtest/gtest.h>

#include "qkv/autograd/ops/cross_entropy.h"
#include "qkv/base/memory.h"
#include "qkv/models/bert.h"
#include "qkv/models/gpt2.h"
#include "qkv/models/transformer.h"

namespace qkv {
namespace {

const std::vector<int32_t> kIds = {3, 4, 5, 1, 6, 7, 1, 9, 10, 2, 8},
                           kTargets = {0, 8, 9, 0, 10, 3, 4, 7, 6, 1, 5};
const Segments kRows({4, 7}), kTargetRows({5, 6});

struct Step {
  double loss = 0;
  std::vector<std::vector<double>> gradients;
  bool operator==(const Step&) const = default;
};

// Two steps' gradients on top of one another, as accumulation does, and the loss of the second.
template <class Model, class Loss>
Step train(const Model& model, DType dtype, bool checkpointing, Loss&& loss) {
  Step step;
  for (const uint32_t number : {1, 2}) {
    Pass pass = Pass::training(dtype, 7, number).with_gradient_checkpointing(checkpointing);
    const CrossEntropy ce = loss(pass);
    backward(ce.loss);
    step.loss = ce.loss_sum;
  }
  for (const ParameterPtr& p : model.parameters().all()) {
    if (p->trainable()) step.gradients.push_back(p->grad().values());
    p->zero_grad();
  }
  return step;
}

template <class Model, class Loss>
void expect_the_same_bits(const std::string& what, const Model& model, Loss&& loss) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Step plain = train(model, dtype, false, loss), again = train(model, dtype, true, loss);
    EXPECT_GT(plain.loss, 0);
    EXPECT_TRUE(plain == again) << what << " " << name(dtype) << ": loss " << plain.loss << " and "
                                << again.loss;
  }
}

TEST(GradientCheckpointing, OfATransformerChangesNoBits) {
  std::vector<TransformerConfig> configs(5, {.vocab_size = 11,
                                             .d_model = 32,
                                             .d_ff = 48,
                                             .encoder_layers = 3,
                                             .decoder_layers = 3,
                                             .n_heads = 2,
                                             .max_len = 32,
                                             .dropout = 0.2,
                                             .attention_dropout = 0.1,
                                             .activation_dropout = 0.1});
  configs[1].pre_norm = true;
  configs[1].stochastic_depth = 0.4;
  configs[2].positions = "none";
  configs[2].encoder_attention = configs[2].decoder_attention = "transformer_xl + soft_cap:4";
  configs[2].cross_attention = "additive";
  configs[3].positions = "none";
  configs[3].activation = Activation::kGelu;
  configs[3].encoder_attention = configs[3].decoder_attention = "rope + talking_heads + head_scale";
  configs[4].dropout = configs[4].activation_dropout = 0;  // residuals in products' epilogues
  for (const TransformerConfig& c : configs) {
    const Transformer model(c, 3);
    const auto hidden = [&](Pass& pass) {
      return model.decode(pass, kTargets, kTargetRows, model.encode(pass, kIds, kRows), kRows);
    };
    const std::string what = c.decoder_attention + (c.pre_norm ? " pre_norm" : "");
    expect_the_same_bits(what, model, [&](Pass& pass) {
      return cross_entropy(hidden(pass), model.output_weight(), model.output_bias(), kIds, 0.1, 0.1);
    });
    expect_the_same_bits(what + " R-Drop", model, [&](Pass& pass) {
      const Var first = hidden(pass), second = hidden(pass);
      return r_drop(first, second, model.output_weight(), model.output_bias(), kIds, 0.1, 5, 0.1);
    });
  }
}

Gpt2Config gpt2(const std::string& attention, double dropout = 0.2) {
  return {.vocab_size = 11,
          .max_len = 128,
          .d_model = 32,
          .n_layers = 3,
          .n_heads = 2,
          .d_ff = 48,
          .dropout = dropout,
          .attention = attention};
}

TEST(GradientCheckpointing, OfGpt2ChangesNoBits) {
  const auto check = [](const char* words, double dropout) {
    const Gpt2 model(gpt2(words, dropout), 3);
    expect_the_same_bits(words, model, [&](Pass& pass) {
      return cross_entropy(model(pass, kIds, kRows), model.embedding(), nullptr, kTargets, 0, 0.1);
    });
  };
  for (const char* words : {"scaled_dot", "qk_norm + rope + sink", "shaw:3", "learned_alibi + sparsemax"})
    check(words, 0.2);
  check("scaled_dot", 0);  // residuals in products' epilogues
}

TEST(GradientCheckpointing, OfBertChangesNoBits) {
  const Bert model({.vocab_size = 11,
                    .max_len = 16,
                    .d_model = 32,
                    .n_layers = 3,
                    .n_heads = 2,
                    .d_ff = 48,
                    .dropout = 0.2,
                    .attention_dropout = 0.1},
                   3);
  expect_the_same_bits("bert", model, [&](Pass& pass) {
    return cross_entropy(model.predict(model(pass, kIds, kRows)), model.output_weight(), model.output_bias(),
                         kTargets, 0, 0.1);
  });
}

// What is told each layer once, a memory of earlier segments or a probe, is still told it once.
TEST(GradientCheckpointing, LeavesLayersThatRememberOrAreProbedAlone) {
  Gpt2Config c = gpt2("rope");
  c.positions = "none";
  const Gpt2 model(c, 3);
  for (bool checkpointing : {false, true}) {
    SegmentMemory memory(c.n_layers, 8);
    Probe probe{.sites = {"decoder"}};
    Pass pass = Pass::training(DType::kF32, 7, 1).with_gradient_checkpointing(checkpointing);
    const Var hidden = model(pass, kIds, kRows, &probe, &memory);
    backward(hidden);
    EXPECT_EQ(memory.length(0, 1), 7);
    EXPECT_EQ(static_cast<int64_t>(probe.rows.size()), c.n_layers * c.n_heads * 11);
  }
}

TEST(GradientCheckpointing, KeepsAFractionOfTheMemory) {
  Gpt2Config c = gpt2("scaled_dot");
  c.d_model = 64;
  c.d_ff = 256;
  c.n_layers = 8;
  const Gpt2 model(c, 3);
  const std::vector<int32_t> ids(1024, 5);
  const Segments rows(std::vector<int64_t>(8, 128));
  const auto kept = [&](bool checkpointing) {
    Pass pass = Pass::training(DType::kF32, 7, 1).with_gradient_checkpointing(checkpointing);
    const int64_t before = memory_use().in_use;
    const Var hidden = model(pass, ids, rows);
    const int64_t after = memory_use().in_use;
    reset_memory_peak();
    backward(hidden);
    return std::pair{after - before, memory_use().peak - before};
  };
  kept(false);  // packed weights and gradients are there from now on
  const auto [without, peak_without] = kept(false);
  const auto [with, peak_with] = kept(true);
  const int64_t activation = 1024 * c.d_model * 4;
  EXPECT_LT(with, (c.n_layers + 4) * 5 * activation / 4);  // blocks may be a quarter too large
  EXPECT_GT(without, 8 * with);
  EXPECT_GT(peak_without, 3 * peak_with);
}

}  // namespace
}  // namespace qkv
