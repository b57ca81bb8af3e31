#include "qkv/tasks/translation_training.h"

#include <gtest/gtest.h>

#include "qkv/io/testing.h"
#include "qkv/tasks/toy_model.h"

namespace qkv {
namespace {

const ParallelText kText{.source = {"a b", "cd", "e f g"}, .target = {"x", "yz y", "z x y"}};

struct Trained {
  LossSums sums;
  std::vector<double> gradient;
};

Trained train_once(double dropout, double r_drop, uint32_t step) {
  TranslationModel model = test::toy_model();
  TransformerConfig config = model.transformer->config();
  config.dropout = dropout;
  model.transformer = std::make_shared<Transformer>(config, 5);
  TranslationTrainee trainee(model, kText, kText,
                             {.r_drop = r_drop, .batches = {.max_length = 60}, .bleu_sentences = 0});
  trainee.begin_epoch(0);
  Pass pass = Pass::training(DType::kF32, 1, step);
  Trained out{.sums = trainee.accumulate_gradients(0, pass, 1), .gradient = {}};
  out.gradient = model.transformer->output_weight()->grad().values();
  return out;
}

TEST(TranslationTraining, RDropWithoutDropoutIsTheLossItself) {
  const Trained plain = train_once(0, 0, 1), twice = train_once(0, 5, 1);
  EXPECT_NEAR(twice.sums.loss, plain.sums.loss, 1e-4);
  EXPECT_NEAR(twice.sums.nll, plain.sums.nll, 1e-4);
  EXPECT_EQ(twice.sums.n, plain.sums.n);
  for (size_t i = 0; i < plain.gradient.size(); ++i)
    EXPECT_NEAR(twice.gradient[i], plain.gradient[i], 1e-3) << i;
}

// The two passes drop out other features: they disagree, and the loss says by how much.
TEST(TranslationTraining, RDropAddsWhatTwoPassesDisagreeBy) {
  const Trained agreeing = train_once(0.3, 1e-9, 1), penalised = train_once(0.3, 5, 1);
  EXPECT_EQ(agreeing.sums.nll, penalised.sums.nll);
  EXPECT_GT(penalised.sums.loss, agreeing.sums.loss + 0.1);
  EXPECT_EQ(train_once(0.3, 5, 1).gradient, penalised.gradient);
  EXPECT_NE(train_once(0.3, 5, 2).gradient, penalised.gradient);
}

TEST(TranslationTraining, ANegativeRDropIsRefused) {
  EXPECT_ERROR(kValue, "r_drop is -1", train_once(0, -1, 1));
}

}  // namespace
}  // namespace qkv
