#include "qkv/attention/variant.h"

#include <gtest/gtest.h>

#include <map>

#include "qkv/attention/edits.h"
#include "qkv/attention/masks.h"
#include "qkv/attention/scores.h"
#include "qkv/attention/test_cases.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

const HeadSizes kHeads{.n_heads = 4, .n_kv_heads = 2, .d_k = 6, .d_v = 10};

AttentionParts make(const std::string& words, ParameterSet& set, bool causal = false, bool cross = false) {
  return make_variant(
      words,
      {.set = set, .prefix = "attn", .heads = kHeads, .d_model = 24, .causal = causal, .cross = cross});
}

// The words' parts against the same parts made by hand.
void expect_same(const std::string& words, const AttentionOptions& by_hand, bool causal = false) {
  ParameterSet set(1);
  const AttentionParts parts = make(words, set, causal);
  const test::Inputs in = test::random_inputs({.heads = kHeads}, DType::kF32);
  AttentionOptions options{.heads = kHeads,
                           .score = parts.score,
                           .rules = parts.rules,
                           .normalizer = parts.normalizer,
                           .path = parts.path};
  AttentionOptions other = by_hand;
  other.heads = kHeads;
  test::expect_equal_bits(test::run(in, options).out, test::run(in, other).out, words);
}

TEST(Variant, WordsMakeWhatTheirFunctionsMake) {
  ParameterSet set(1);
  expect_same("scaled_dot", {});
  expect_same("  dot+ soft_cap:3.5 ", {.score = dot(), .rules = {soft_cap(3.5)}});
  expect_same("alibi + temperature:0.5 + sigmoid:-1",
              {.rules = {alibi(4), temperature(0.5)}, .normalizer = sigmoid(-1)});
  expect_same("window:5", {.rules = {sliding_window({.back = 5, .ahead = 4})}});
  expect_same("window:5:2", {.rules = {causal(), sliding_window({.back = 5, .dilation = 2}), causal()}},
              true);
  expect_same("sparsemax + strided:3", {.rules = {strided(3)}, .normalizer = sparsemax()});
  expect_same("window:8|global:2 + entmax15",
              {.rules = {any_of({sliding_window({.back = 8, .ahead = 7}), global_positions({0, 1})})},
               .normalizer = entmax15()});
  expect_same("reference + alibi", {.rules = {alibi(4)}, .path = AttentionPath::kReference});
}

TEST(Variant, NoneLooksAtNothingInParticular) {
  expect_same("none", {.score = uniform()});
  expect_same("none + window:5", {.score = uniform(), .rules = {sliding_window({.back = 5, .ahead = 4})}});
}

TEST(Variant, EditsApplyInTheOrderOfTheWords) {
  expect_same("alibi + soft_cap:2", {.rules = {alibi(4), soft_cap(2)}});
  expect_same("soft_cap:2 + alibi", {.rules = {soft_cap(2), alibi(4)}});
}

TEST(Variant, WordsSayWhichNumbersTheyTake) {
  std::map<std::string_view, std::string> numbers;
  for (const AttentionWord& word : attention_words()) numbers[word.name] = word.numbers;
  EXPECT_EQ(numbers["alibi"], "");
  EXPECT_EQ(numbers["global"], ":N");
  EXPECT_EQ(numbers["window"], ":N[:DILATION]");
  EXPECT_EQ(numbers["t5"], "[:BUCKETS[:MAX_DISTANCE]]");
}

TEST(Variant, EveryWordMakesAPartOfItsKind) {
  for (const AttentionWord& word : attention_words()) {
    std::string text(word.name);
    if (word.numbers.starts_with(":")) text += ":4";
    ParameterSet set(1);
    const AttentionParts parts = make(text, set);
    EXPECT_TRUE(parts.score != nullptr && parts.normalizer != nullptr) << text;
    EXPECT_EQ(has_positions(text), word.kind == AttentionWord::Kind::kPositions) << text;
    switch (word.kind) {
      case AttentionWord::Kind::kScore:
        EXPECT_EQ(parts.score->name(), word.name);
        break;
      case AttentionWord::Kind::kPositions:
        EXPECT_NE(parts.positions != nullptr, !parts.rules.empty());
        break;
      case AttentionWord::Kind::kMask:
        EXPECT_TRUE(dynamic_cast<const Mask*>(parts.rules.at(0).get()));
        break;
      case AttentionWord::Kind::kCap:
        EXPECT_TRUE(dynamic_cast<const Edit*>(parts.rules.at(0).get()));
        break;
      case AttentionWord::Kind::kNormalizer:
        EXPECT_EQ(parts.normalizer->name(), word.name == "sink" ? "softmax_with_sink" : word.name);
        break;
      case AttentionWord::Kind::kHeads:
        EXPECT_NE(static_cast<bool>(parts.talking), parts.head_scale != nullptr);
        break;
      case AttentionWord::Kind::kPath:
        EXPECT_NE(parts.path, AttentionPath::kAuto);
        break;
    }
  }
}

TEST(Variant, WrongWordsAreNamed) {
  const auto makes = [](const std::string& words, bool cross = false) {
    ParameterSet set(1);
    (void)make(words, set, false, cross);
  };
  EXPECT_ERROR(kValue, "did you mean scaled_dot?", makes("scaled_dto"));
  EXPECT_ERROR(kValue, "a word is missing", makes(""));
  EXPECT_ERROR(kValue, "a word is missing", makes("dot ++ rope"));
  EXPECT_ERROR(kValue, "write window:N[:DILATION]", makes("window"));
  EXPECT_ERROR(kValue, "\"window:1:2:3\" has 3 numbers, window takes 1 or 2: write window:N[:DILATION]",
               makes("window:1:2:3"));
  EXPECT_ERROR(kValue, "has 0 numbers, global takes 1: write global:N", makes("global"));
  EXPECT_ERROR(kValue, "\"dot:3\" has 1 number, dot takes none: write dot", makes("dot:3"));
  EXPECT_ERROR(kValue, "t5 takes 0 to 2", makes("t5:1:2:3"));
  EXPECT_ERROR(kValue, "\"1e309\" in \"soft_cap:1e309\" is too large", makes("soft_cap:1e309"));
  EXPECT_ERROR(kValue, "too near 0, for a number: CAP needs to be a number from 1e-06",
               makes("soft_cap:1e-400"));
  EXPECT_ERROR(kValue, "is called \"a\"; there are", makes("a"));
  EXPECT_ERROR(kValue, "is called \"\\u0000\"; there are", makes(std::string(1, '\0')));
  EXPECT_ERROR(kValue, "\"x\" in \"window:x\" is not a number", makes("window:x"));
  EXPECT_ERROR(kValue, "is not a number", makes("window:inf"));
  EXPECT_ERROR(kValue, "N in \"window:2.5\" is 2.5, needs to be a whole number from 1", makes("window:2.5"));
  EXPECT_ERROR(kValue, "N in \"window:0\" is 0, needs to be a whole number from 1", makes("window:0"));
  EXPECT_ERROR(kValue, "DILATION in \"window:8:-1\" is -1", makes("alibi + window:8:-1"));
  EXPECT_ERROR(kValue, "N in \"strided:0\" is 0", makes("window:4|strided:0"));
  EXPECT_ERROR(kValue, "N in \"global:1e9\" is 1e9, needs to be a whole number from 1 to 65536",
               makes("global:1e9"));
  EXPECT_ERROR(kValue, "CAP in \"soft_cap:-1\" is -1, needs to be a number from 1e-06 to 1e+06",
               makes("soft_cap:-1"));
  EXPECT_ERROR(kValue, "BASE in \"rope:1\" is 1, needs to be a number above 1", makes("rope:1"));
  EXPECT_ERROR(kValue, "MAX_DISTANCE in \"shaw:0\" is 0", makes("shaw:0"));
  EXPECT_ERROR(kValue, "attention: \"t5:5:128\": ", makes("t5:5:128"));  // what two numbers make together
  EXPECT_ERROR(kValue, "an even number", makes("t5:5:128"));
  EXPECT_ERROR(kValue, "dot and general are both a score", makes("dot + general"));
  EXPECT_ERROR(kValue, "rope and alibi are both a position scheme", makes("rope + alibi"));
  EXPECT_ERROR(kValue, "| joins masks", makes("dot|rope"));
  EXPECT_ERROR(kValue, "need a score that is a dot product; additive is none", makes("additive + rope"));
  EXPECT_ERROR(kValue, "rope in cross-attention", makes("rope", true));
  EXPECT_ERROR(kValue, "window in cross-attention", makes("window:3", true));
  EXPECT_ERROR(kValue, "2000 characters", makes(std::string(2000, 'a')));
  makes("general + soft_cap:5 + sink", true);
  EXPECT_ERROR(kValue,
               "m/config.json: attention: ", check_variant("rop", "m/config.json", kHeads, 24, false, false));
}

}  // namespace
}  // namespace qkv
