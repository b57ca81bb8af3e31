#include "qkv/scores/chrf.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace qkv::scores {
namespace {

using Lines = std::vector<std::string>;

struct Case {
  Lines hyps, refs;
  double score;
};

// sacrebleu test/test_chrf.py, test_cases: beta 3, epsilon smoothing (values of chrF++.py and NLTK).
TEST(Chrf, WithEpsilonSmoothingIsSacrebleus) {
  const Case cases[] = {
      {{"abcdefg"}, {"hijklmnop"}, 0.0},
      {{"a"}, {"b"}, 0.0},
      {{""}, {"b"}, 0.0},
      {{""}, {"reference"}, 0.0},
      {{"aa"}, {"ab"}, 8.3333},
      {{"a", "b"}, {"a", "c"}, 8.3333},
      {{"a"}, {"a"}, 16.6667},
      {{"a b c"}, {"a b c"}, 50.0},
      {{"a b c"}, {"abc"}, 50.0},
      {{" risk assessment must be made of those who are qualified and expertise in the sector - these are "
        "the "
        "scientists ."},
       {"risk assessment has to be undertaken by those who are qualified and expert in that area - that is "
        "the "
        "scientists ."},
       63.361730},
      {{" Die    Beziehung zwischen  Obama und Netanjahu ist nicht gerade  freundlich. "},
       {"Das Verhältnis zwischen Obama und Netanyahu ist nicht gerade freundschaftlich."},
       64.1302698},
      {{"Niemand hat die Absicht, eine Mauer zu errichten"},
       {"Niemand hat die Absicht, eine Mauer zu errichten"},
       100.0},
  };
  for (const Case& c : cases)
    EXPECT_NEAR(corpus_chrf(c.hyps, {c.refs}, {.beta = 3, .eps_smoothing = true}).score, c.score, 1e-4)
        << c.hyps[0];
}

// test_chrf.py, test_cases_effective_order.
TEST(Chrf, WithEffectiveOrderIsSacrebleus) {
  const Case cases[] = {
      {{"a"}, {"a"}, 100.0},       {{""}, {"reference"}, 0.0}, {{"a b c"}, {"a b c"}, 100.0},
      {{"a b c"}, {"abc"}, 100.0}, {{""}, {"c"}, 0.0},         {{"a", "b"}, {"a", "c"}, 50.0},
      {{"aa"}, {"ab"}, 25.0}};
  for (const Case& c : cases)
    EXPECT_NEAR(corpus_chrf(c.hyps, {c.refs}, {.beta = 3}).score, c.score, 1e-4) << c.hyps[0];
}

// test_chrf.py, test_cases_keep_whitespace.
TEST(Chrf, WithWhiteSpaceIsSacrebleus) {
  const ChrfOptions options{.beta = 3, .whitespace = true};
  EXPECT_NEAR(
      corpus_chrf(Lines{"Die Beziehung zwischen Obama und Netanjahu ist nicht gerade freundlich."},
                  {{"Das Verhältnis zwischen Obama und Netanyahu ist nicht gerade freundschaftlich."}},
                  options)
          .score,
      67.3481606, 1e-4);
  EXPECT_NEAR(
      corpus_chrf(
          Lines{"risk assessment must be made of those who are qualified and expertise in the sector - "
                "these are the scientists ."},
          {{"risk assessment has to be undertaken by those who are qualified and expert in that area - "
            "that is the scientists ."}},
          options)
          .score,
      65.2414427, 1e-4);
}

// test_chrf.py, test_sentence_level_chrf.
TEST(SentenceChrf, IsSacrebleus) {
  const ChrfOptions options{.eps_smoothing = true};
  EXPECT_NEAR(
      sentence_chrf("Co nás nejvíc trápí, protože lékaři si vybírají, kdo bude žít a kdo zemře.",
                    {"Nejvíce smutní jsme z toho, že musíme rozhodovat o tom, kdo bude žít a kdo zemře."},
                    options)
          .score,
      39.14078509, 1e-4);
  EXPECT_NEAR(
      sentence_chrf("Nebo prostě nemají vybavení, které by jim pomohlo, uvedli lékaři.",
                    {"A někdy nemáme ani potřebný materiál, abychom jim pomohli, popsali lékaři."}, options)
          .score,
      31.22557079, 1e-4);
  EXPECT_NEAR(sentence_chrf(
                  "Lapali po dechu, jejich životy skončily dřív, než skutečně začaly.",
                  {"Lapali po dechu a pak jejich život skončil - dřív, než skutečně mohl začít, připomněli."},
                  options)
                  .score,
              57.15704367, 1e-4);
}

// Small enough for a hand: "ab" against "ab", "abc". Characters: order 1 2/2 2/2, order 2 1/1 1/1, no more on
// the hypothesis' side. With words: order 1 1/1 1/1.
TEST(Chrf, TakesTheBestReferenceOfEachSentence) {
  EXPECT_NEAR(sentence_chrf("ab", {"xyz", "ab", "abc"}).score, 100.0, 1e-9);
  EXPECT_NEAR(sentence_chrf("ab", {"xyz", "ab"}, {.word_order = 2}).score, 100.0, 1e-9);
  EXPECT_LT(sentence_chrf("ab", {"xyz", "abc"}).score, 100.0);
}

// Orders 1 and 2 of "ab cd" against "ab xy": characters 2/4, 1/3; words 1/2, 0/1. P = R, so F = P.
TEST(ChrfPlusPlus, AddsWordsToTheMean) {
  const ChrfScore s = sentence_chrf("ab cd", {"ab xy"}, {.char_order = 2, .word_order = 2});
  EXPECT_NEAR(s.score, 100.0 * (0.5 + 1.0 / 3 + 0.5 + 0) / 4, 1e-9);
  EXPECT_EQ(s.name, "chrF2++");
}

// By hand, orders 1 to 3 over both sentences: matches 6, 4, 2; in the references 6, 4, 2; in the hypotheses
// 6 + 4, 5 + 3 and 0 + 2, for "ab" has no three characters to miss.
TEST(Chrf, DoesNotCountOrdersTheReferenceIsTooShortFor) {
  const double precision = (0.6 + 0.5 + 1.0) / 3;
  EXPECT_NEAR(corpus_chrf(Lines{"abcdef", "abcd"}, {{"ab", "abcd"}}, {.char_order = 3, .beta = 1}).score,
              100 * 2 * precision / (precision + 1), 1e-9);
}

// sacreBLEU issue 124 keeps "(hi" together.
TEST(ChrfPlusPlus, PartsOnePunctuationMarkFromAWord) {
  EXPECT_EQ(chrf_words("(hi) \"yes\" -no a. ; é! ..."),
            (std::vector<std::string_view>{"(hi", ")", "\"yes", "\"", "-", "no", "a", ".", ";", "é", "!",
                                           "..", "."}));
}

TEST(Chrf, SignaturesAreSacrebleus) {
  EXPECT_EQ(corpus_chrf(Lines{"a"}, {{"a"}}).signature,
            "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:qkv-" QKV_VERSION);
  EXPECT_EQ(Chrf({.word_order = 2, .lowercase = true, .whitespace = true, .eps_smoothing = true})
                .signature(2)
                .short_text(),
            "#:2|c:lc|e:no|nc:6|nw:2|s:yes|v:qkv-" QKV_VERSION);
  EXPECT_EQ(Chrf().name(), "chrF2");
}

TEST(Chrf, OfTheReferenceItselfIsAHundred) {
  const Lines text = {"Ein Hund, der läuft.", "我爱北京天安门", "x"};
  EXPECT_NEAR(corpus_chrf(text, {text}).score, 100.0, 1e-9);
  EXPECT_NEAR(corpus_chrf(text, {text}, {.word_order = 2}).score, 100.0, 1e-9);
  EXPECT_NEAR(corpus_chrf(Lines{"EIN HUND, DER LÄUFT."}, {{text[0]}}, {.lowercase = true}).score, 100.0,
              1e-9);
}

TEST(Chrf, RefusesOrdersOutsideTheirRange) {
  EXPECT_THROW(Chrf({.char_order = 0}), Error);
  EXPECT_THROW(Chrf({.word_order = -1}), Error);
  EXPECT_THROW(Chrf({.beta = 0}), Error);
}

}  // namespace
}  // namespace qkv::scores
