#include "qkv/tasks/head_importance.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "qkv/base/testing.h"
#include "qkv/tasks/toy_model.h"

namespace qkv {
namespace {

const std::vector<std::string> kSources = {"ab ba", "b", "aa bb cc"};
const std::vector<std::vector<std::string>> kReferences = {{"xy", "z z", "xx yy"}};

HeadImportance toy(const TranslationModel& model, HeadMetric metric = HeadMetric::kLoss) {
  return HeadImportance(model, kSources, kReferences, {.metric = metric, .dtype = DType::kF32});
}

// toy_model: 2 layers of 2 heads in the encoder, 3 of 2 in the decoder, which looks at itself and the source.
TEST(HeadImportance, KnowsEveryHead) {
  const HeadImportance heads = toy(test::toy_model());
  ASSERT_EQ(heads.heads().size(), 4u + 6 + 6);
  EXPECT_EQ(heads.heads()[3].site, "encoder");
  EXPECT_EQ(heads.heads()[4].site, "decoder");
  EXPECT_EQ(heads.heads()[15].site, "cross");
  EXPECT_EQ(heads.heads()[15].layer, 2);
  EXPECT_EQ(heads.heads()[15].head, 1);
}

TEST(HeadImportance, DroppingChangesTheLossAndKeepingBringsItBack) {
  HeadImportance heads = toy(test::toy_model());
  const double whole = heads.measure();
  for (size_t h = 0; h < heads.heads().size(); ++h) {
    heads.drop(h);
    EXPECT_NE(heads.measure(), whole) << h;
    heads.drop(h, false);
    EXPECT_EQ(heads.measure(), whole) << h;
  }
}

// With every head of cross-attention gone, the translation no longer depends on the source.
TEST(HeadImportance, WithoutCrossAttentionTheSourceDoesNotMatter) {
  const TranslationModel model = test::toy_model();
  const auto loss_of = [&](const std::vector<std::string>& sources, bool dropped) {
    HeadImportance heads(model, sources, {{"xy"}}, {.dtype = DType::kF32});
    for (size_t h = 10; h < 16; ++h) heads.drop(h, dropped);
    return heads.measure();
  };
  EXPECT_NE(loss_of({"ab"}, false), loss_of({"cd"}, false));
  EXPECT_EQ(loss_of({"ab"}, true), loss_of({"cd"}, true));
}

TEST(HeadImportance, LeavesTheModelAsItWas) {
  const TranslationModel model = test::toy_model();
  std::vector<std::vector<double>> before;
  for (const ParameterPtr& p : model.transformer->parameters().all()) before.push_back(p->value().values());
  {
    HeadImportance heads = toy(model);
    heads.drop(0);
    heads.drop(9);
    (void)heads.measure();
  }
  for (size_t i = 0; i < before.size(); ++i)
    EXPECT_EQ(model.transformer->parameters().all()[i]->value().values(), before[i]);
}

TEST(HeadImportance, NoiseHarmsMoreTheMoreThereIs) {
  const TranslationModel model = test::toy_model();
  HeadImportance heads = toy(model), bleu = toy(model, HeadMetric::kBleu);
  const double whole = heads.measure();
  double change[2];
  for (const double noise : {0.01, 1.0}) {
    heads.disturb(15, noise);
    change[noise == 1] = std::abs(heads.measure() - whole);
    EXPECT_EQ(heads.measure(), heads.measure()) << "the same noise again";
  }
  EXPECT_GT(change[0], 0);
  EXPECT_GT(change[1], change[0]);
  heads.disturb(15, 0);
  EXPECT_EQ(heads.measure(), whole);
  bleu.disturb(15, 100);
  EXPECT_GE(bleu.measure(), 0);
}

TEST(HeadImportance, HarmIsAboveZeroWhereItIsWorse) {
  const TranslationModel model = test::toy_model();
  EXPECT_GT(toy(model).harm(2, 1), 0);
  EXPECT_GT(toy(model, HeadMetric::kBleu).harm(1, 2), 0);
  EXPECT_GE(toy(model, HeadMetric::kBleu).measure(), 0);
  EXPECT_GE(toy(model, HeadMetric::kChrf).measure(), 0);
}

TEST(PruneGreedily, DropsEachHeadOnceTheLeastHarmfulFirst) {
  HeadImportance heads = toy(test::toy_model());
  double least = 1e9;
  const double whole = heads.measure();
  for (size_t h = 0; h < heads.heads().size(); ++h) {
    heads.drop(h);
    least = std::min(least, heads.measure());
    heads.drop(h, false);
  }
  int64_t calls = 0;
  const std::vector<PruneStep> steps = prune_greedily(heads, [&](int64_t done, int64_t total) {
    EXPECT_EQ(done, ++calls);
    EXPECT_EQ(total, 16 * 17 / 2);
  });
  EXPECT_EQ(calls, 16 * 17 / 2);
  EXPECT_EQ(steps.front().value, least);
  std::set<size_t> dropped;
  for (const PruneStep& s : steps) dropped.insert(s.head);
  EXPECT_EQ(dropped.size(), 16u);
  EXPECT_EQ(heads.measure(), whole);
}

TEST(HeadImportance, SaysWhatIsWrong) {
  const TranslationModel model = test::toy_model();
  EXPECT_ERROR(kValue, "there are loss, bleu, chrf", head_metric_from_name("ter"));
  EXPECT_ERROR(kValue, "a sentence pair at least", HeadImportance(model, {}, {{}}));
  EXPECT_ERROR(kValue, "2 sources and 1 references", HeadImportance(model, {"a", "b"}, {{"a"}}));
  EXPECT_ERROR(kUnsupported, "pair 1 has 102 tokens, the model's max_len is 64",
               HeadImportance(model, {"a"}, {{std::string(100, 'b')}}));
}

}  // namespace
}  // namespace qkv
