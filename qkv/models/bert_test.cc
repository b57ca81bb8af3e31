#include "qkv/models/bert.h"

#include <gtest/gtest.h>

#include "qkv/autograd/gradcheck.h"
#include "qkv/autograd/ops/rows.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

BertConfig tiny() {
  return {.vocab_size = 13,
          .max_len = 16,
          .d_model = 8,
          .n_layers = 2,
          .n_heads = 2,
          .d_ff = 12,
          .dropout = 0,
          .attention_dropout = 0,
          .pooler = true};
}

const std::vector<int32_t> kIds = {2, 5, 6, 3, 7, 3, 2, 8, 9, 3}, kTypes = {0, 0, 0, 0, 1, 1, 0, 0, 0, 0};
const Segments kText({6, 4});

TEST(Bert, GradientsAreRightThroughBothHeads) {
  for (const char* words : {"scaled_dot", "rope + window:2"}) {
    BertConfig c = tiny();
    c.n_layers = 1;
    c.attention = words;
    c.dropout = c.attention_dropout = 0.2;
    if (has_positions(words)) c.positions = "none";
    const Bert model(c, 3, DType::kF64);
    for (const ParameterPtr& p : model.parameters().all())
      if (p->name().ends_with("bias")) p->set_value(random_tensor(p->value().shape(), 7, DType::kF64, 0.3));
    const auto heads = [&](const auto&) {
      Pass pass = Pass::training(DType::kF64, 1, 1);
      const Var hidden = model(pass, kIds, kText, kTypes);
      return take_rows({model.predict(hidden), model.pool(hidden, kText)}, {1, 8, 10, 11});
    };
    EXPECT_EQ(gradcheck(heads, {}, model.parameters().all()), "") << words;
  }
}

// A text sees all of itself, to the end, and nothing of its neighbour.
TEST(Bert, EveryTokenSeesItsWholeTextAndNoOther) {
  const NoGrad off;
  const Bert model(tiny(), 3);
  Pass pass = Pass::running(DType::kF32);
  const Tensor before = model(pass, kIds, kText, kTypes).value();
  std::vector<int32_t> ids = kIds;
  ids[5] = 12;  // the last of the first text
  const Tensor after = model(pass, ids, kText, kTypes).value();
  for (int64_t r = 0; r < 10; ++r)
    EXPECT_EQ(before.rows(r, r + 1).values() == after.rows(r, r + 1).values(), r >= 6) << r;
  const Tensor alone = model(pass, {2, 8, 9, 3}, Segments({4})).value();
  EXPECT_EQ(alone.values(), before.rows(6, 10).values());
}

TEST(Bert, TheSecondSentenceOfAPairIsToldApart) {
  const NoGrad off;
  const Bert model(tiny(), 3);
  Pass pass = Pass::running(DType::kF32);
  EXPECT_NE(model(pass, kIds, kText, kTypes).value().values(), model(pass, kIds, kText).value().values());
  EXPECT_EQ(model(pass, kIds, kText, std::vector<int32_t>(10)).value().values(),
            model(pass, kIds, kText).value().values());
}

TEST(Bert, BaseHasAHundredAndTenMillionParameters) {
  // "BERT_BASE (L=12, H=768, A=12, Total Parameters=110M)", its pooler counted and its head for hidden words
  // not.
  BertConfig c;
  c.pooler = true;
  c.masked_lm = false;
  const ParameterReader nothing = [](const std::string&, const Shape& shape) {
    return Tensor::empty(shape, DType::kF32);
  };
  EXPECT_EQ(Bert(c, nothing).parameters().numel(), 109'482'240);
}

TEST(Bert, SaysWhatItHasNot) {
  BertConfig c = tiny();
  c.pooler = c.masked_lm = false;
  const Bert model(c, 3);
  Pass pass = Pass::running(DType::kF32);
  const Var hidden = model(pass, kIds, kText);
  EXPECT_ERROR(kUnsupported, "no pooler", (void)model.pool(hidden, kText));
  EXPECT_ERROR(kUnsupported, "no head for hidden words", (void)model.predict(hidden));
  EXPECT_ERROR(kValue, "a sequence of 17 tokens; this model has 16 positions",
               (void)model(pass, std::vector<int32_t>(17), Segments({17})));
  EXPECT_ERROR(kValue, "2 is outside the 2 rows of bert.embeddings.token_type_embeddings",
               (void)model(pass, {1}, Segments({1}), {2}));
  c.n_heads = 3;
  EXPECT_ERROR(kValue, "bert: n_heads (3) does not divide d_model (8)", c.validate());
  c = tiny();
  c.attention = "rop";
  EXPECT_ERROR(kValue, "did you mean rope", c.validate());
}

}  // namespace
}  // namespace qkv
