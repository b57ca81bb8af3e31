#include <gtest/gtest.h>

#include <cmath>

#include "qkv/io/testing.h"
#include "qkv/tasks/language_model_training.h"
#include "qkv/tasks/masked_language_model_training.h"
#include "qkv/text/bpe_trainer.h"
#include "qkv/train/optimizers/adamw.h"

namespace qkv {
namespace {

using Texts = std::vector<std::string>;

std::shared_ptr<Tokenizer> bytes(const Texts& special_tokens) {
  const auto n = static_cast<int64_t>(special_tokens.size());
  return std::make_shared<Tokenizer>(train_bpe(
      Texts{"x"},
      {.vocab_size = 256 + n, .prefix_space = false, .special_tokens = special_tokens, .end_token = ""}));
}

LanguageModel language_model(double dropout = 0) {
  const auto tokenizer = bytes({"<|endoftext|>"});
  return {.gpt2 = std::make_shared<Gpt2>(Gpt2Config{.vocab_size = tokenizer->vocab_size(),
                                                    .max_len = 16,
                                                    .d_model = 32,
                                                    .n_layers = 1,
                                                    .n_heads = 2,
                                                    .d_ff = 32,
                                                    .dropout = dropout,
                                                    .eos_id = 0},
                                         5),
          .tokenizer = tokenizer};
}

MaskedLanguageModel masked_model(double dropout = 0) {
  const auto tokenizer = bytes({"[PAD]", "[CLS]", "[SEP]", "[MASK]"});
  return {.bert = std::make_shared<Bert>(BertConfig{.vocab_size = tokenizer->vocab_size(),
                                                    .max_len = 18,
                                                    .d_model = 64,
                                                    .n_layers = 1,
                                                    .n_heads = 2,
                                                    .d_ff = 128,
                                                    .dropout = dropout,
                                                    .attention_dropout = dropout},
                                         5),
          .tokenizer = tokenizer};
}

TextTrainingOptions options(int64_t length) { return {.windows = {.length = length, .batch_tokens = 64}}; }

// Trains as the loop would.
void train_some(Trainee& trainee, int64_t steps, double rate) {
  AdamW optimizer(trainee.parameters(), {}, 1);
  int64_t epoch = 0, batches = 0, batch = 0;
  for (int64_t step = 0; step < steps; ++step) {
    if (batch == batches) batches = trainee.begin_epoch(epoch++), batch = 0;
    const int64_t n = trainee.target_tokens(batch);
    Pass pass = Pass::training(DType::kF32, 1, static_cast<uint32_t>(step));
    const LossSums sums = trainee.accumulate_gradients(batch++, pass, 1 / static_cast<double>(n));
    EXPECT_EQ(sums.n, n);  // what the loop divides by is what there is
    optimizer.step(rate, optimizer.grad_norm());
  }
}

const Texts kRound = {"abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghij"};

double nll(const Texts& documents) {
  LanguageModelTrainee trainee(language_model(), {.training = {"x"}, .validation = documents}, options(16));
  return trainee.validate().loss * static_cast<double>(trainee.validation_tokens() - 1);
}

TEST(LanguageModelTraining, DocumentsThatShareAWindowDoNotSeeOneAnother) {
  const double one = nll({"abc"}), other = nll({"defg"});
  EXPECT_NEAR(nll({"abc", "defg"}), one + other, 1e-4);
  EXPECT_GT(std::abs(nll({"abcdefg"}) - one - other), 0.01);
}

TEST(LanguageModelTraining, LearnsWhatFollows) {
  LanguageModelTrainee trainee(language_model(0.1), {.training = kRound, .validation = kRound}, options(16));
  EXPECT_GT(trainee.validate().loss, 5);
  train_some(trainee, 120, 0.01);
  const Validation v = trainee.validate();
  EXPECT_LT(v.loss, 0.3);
  EXPECT_NEAR(v.perplexity, std::exp(v.loss), 1e-9);
  // A token is a byte here; the end of the text is one more to be paid for.
  EXPECT_NEAR(v.bits_per_byte, v.loss / std::log(2) * 71 / 70, 1e-9);
  EXPECT_LT(trainee.baseline().pair_loss, 0.5);
}

TEST(MaskedLanguageModelTraining, LearnsWhatIsHidden) {
  const Texts many(20, kRound[0]);
  TextTrainingOptions o = options(18);
  o.windows.batch_tokens = 256;
  MaskedLanguageModelTrainee trainee(masked_model(), {.training = many, .validation = many}, o);
  EXPECT_LT(trainee.validate().score, 20);
  train_some(trainee, 300, 0.003);
  const Validation v = trainee.validate();
  EXPECT_EQ(v.score_name, "accuracy");
  EXPECT_GT(v.score, 90);
}

TEST(MaskedLanguageModelTraining, ValidatesOnTheSameWordsEveryTimeAndTrainsOnOthersEachStep) {
  MaskedLanguageModelTrainee trainee(masked_model(), {.training = kRound, .validation = kRound}, options(18));
  EXPECT_EQ(trainee.validate().loss, trainee.validate().loss);
  trainee.begin_epoch(0);
  const auto loss = [&](uint32_t step) {
    Pass pass = Pass::training(DType::kF32, 1, step);
    return trainee.accumulate_gradients(0, pass, 1).loss;
  };
  EXPECT_EQ(loss(3), loss(3));
  EXPECT_NE(loss(3), loss(4));
}

TEST(TextTraining, TheDataAndHowItIsCutAreKnownAgain) {
  const auto print = [](const Texts& documents, int64_t length) {
    return LanguageModelTrainee(language_model(), {.training = documents, .validation = {"x"}},
                                options(length))
        .fingerprint();
  };
  EXPECT_EQ(print({"abc", "d"}, 8), print({"abc", "d"}, 8));
  EXPECT_NE(print({"abc", "d"}, 8), print({"ab", "cd"}, 8));
  EXPECT_NE(print({"abc", "d"}, 8), print({"abc", "d"}, 9));
}

TEST(TextTraining, ModelsComeBackWithTheirTokenizers) {
  const NoGrad off;
  const io::testing::TemporaryFolder folder;
  Pass pass = Pass::running(DType::kF32);
  const LanguageModel lm = language_model();
  lm.save(folder.path(), DType::kF32);
  const LanguageModel lm2 = LanguageModel::load(folder.path());
  EXPECT_EQ(lm2.tokenizer->to_json(), lm.tokenizer->to_json());
  EXPECT_EQ((*lm2.gpt2)(pass, {1, 2}, Segments({2})).value().values(),
            (*lm.gpt2)(pass, {1, 2}, Segments({2})).value().values());
  const MaskedLanguageModel mlm = masked_model();
  mlm.save(folder.path(), DType::kF32);
  const MaskedLanguageModel mlm2 = MaskedLanguageModel::load(folder.path());
  EXPECT_EQ((*mlm2.bert)(pass, {1, 2}, Segments({2})).value().values(),
            (*mlm.bert)(pass, {1, 2}, Segments({2})).value().values());
  EXPECT_ERROR(kUnsupported, "is not a decoder", LanguageModel::load(folder.path()));
}

TEST(TextTraining, SaysWhatDoesNotFit) {
  const TrainingText text{.training = {"abc"}, .validation = {"abc"}};
  EXPECT_ERROR(kValue, "context (17) is over the model's max_len (16)",
               LanguageModelTrainee(language_model(), text, options(17)));
  EXPECT_ERROR(kValue, "context is 2, needs to be at least 3",
               MaskedLanguageModelTrainee(masked_model(), text, options(2)));
  MaskedLanguageModel wrong = masked_model();
  wrong.tokenizer = language_model().tokenizer;
  EXPECT_ERROR(kFormat, "no token that begins a text; one of [CLS], <s> is needed",
               MaskedLanguageModelTrainee(wrong, text, options(18)));
  EXPECT_ERROR(
      kFormat, "too short",
      MaskedLanguageModelTrainee(masked_model(), {.training = {""}, .validation = {"x"}}, options(18)));
}

}  // namespace
}  // namespace qkv
