#include "qkv/scores/bleu.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

namespace qkv::scores {
namespace {

using Lines = std::vector<std::string>;

// The examples of sacreBLEU's README and test/test_bleu.py.
const Lines kHyps = {"The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."};
const References kRefs = {
    {"The dog bit the man.", "It was not unexpected.", "The man bit him first."},
    {"The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."}};

ErrorCode code_of(const std::function<void()>& f, std::string* text = nullptr) {
  try {
    f();
  } catch (const Error& e) {
    if (text != nullptr) *text = e.what();
    return e.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::kInternal;
}

// sacrebleu test/test_bleu.py, test_corpus_bleu_cases, at its tolerance.
TEST(Bleu, OfTheReadmeExampleIsSacrebleus) {
  EXPECT_NEAR(corpus_bleu(kHyps, kRefs).score, 48.530827, 1e-6);
  EXPECT_NEAR(corpus_bleu(kHyps, kRefs, {.tokenize = BleuTokenizer::kNone}).score, 49.1919566, 1e-7);
  EXPECT_NEAR(corpus_bleu(kHyps, kRefs, {.tokenize = BleuTokenizer::k13a}).score, 48.530827, 1e-6);
  EXPECT_NEAR(corpus_bleu(kHyps, kRefs, {.tokenize = BleuTokenizer::kIntl}).score, 43.91623493, 1e-8);
  EXPECT_NEAR(corpus_bleu(kHyps, kRefs, {.smooth = BleuSmoothing::kNone}).score, 48.530827, 1e-6);
}

// test_bleu.py, test_bleu_max_order: to the two decimals it compares.
TEST(Bleu, OfEveryMaximumOrderIsSacrebleus) {
  const double expected[] = {77.65, 60.50, 53.93, 48.53, 46.14, 43.28};
  for (int64_t n = 1; n <= 6; ++n)
    EXPECT_NEAR(corpus_bleu(kHyps, kRefs, {.max_order = n}).score, expected[n - 1], 0.005) << n;
}

// sacreBLEU's README, "Using SacreBLEU from Python": BLEU = 48.53 82.4/50.0/45.5/37.5 (BP = 0.943 ratio =
// 0.944 hyp_len = 17 ref_len = 18), signature nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:2.0.0.
TEST(Bleu, PrintsSacrebleusLineAndSignature) {
  const BleuScore s = corpus_bleu(kHyps, kRefs);
  EXPECT_EQ(s.verbose(), "82.4/50.0/45.5/37.5 (BP = 0.943 ratio = 0.944 hyp_len = 17 ref_len = 18)");
  EXPECT_EQ(s.signature, "nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:qkv-" QKV_VERSION);

  const Bleu bleu;
  const SegmentStats stats = bleu.segment_stats(kHyps, kRefs);
  EXPECT_EQ(format_line(bleu, stats.sum(), bleu.signature(stats.n_refs).short_text()),
            "BLEU|#:2|c:mixed|e:no|tok:13a|s:exp|v:qkv-" QKV_VERSION
            " = 48.5 82.4/50.0/45.5/37.5 (BP = 0.943 ratio = 0.944 hyp_len = 17 ref_len = 18)");
}

TEST(Bleu, SignatureNamesEveryChoice) {
  const BleuOptions options{.tokenize = BleuTokenizer::kZh,
                            .lowercase = true,
                            .smooth = BleuSmoothing::kFloor,
                            .effective_order = true};
  Signature s = Bleu(options).signature(-1);
  s.set_resampling(1000, 0, 12345);
  EXPECT_EQ(
      s.text(),
      "nrefs:var|bs:1000|seed:12345|case:lc|eff:yes|tok:zh|smooth:floor[0.10]|version:qkv-" QKV_VERSION);
  EXPECT_EQ(s.short_text(), "#:var|bs:1000|rs:12345|c:lc|e:yes|tok:zh|s:floor[0.10]|v:qkv-" QKV_VERSION);
  s.set_resampling(0, 10000, 7);
  EXPECT_EQ(s.text(),
            "nrefs:var|ar:10000|seed:7|case:lc|eff:yes|tok:zh|smooth:floor[0.10]|version:qkv-" QKV_VERSION);
  EXPECT_EQ(Bleu({.smooth = BleuSmoothing::kAddK}).signature(1).pairs()[4].second, "add-k[1.00]");
}

// test_bleu.py, test_raw_bleu and test_effective_order: floor 0.01, effective order, white space alone.
TEST(Bleu, WithFloorAndEffectiveOrderIsSacrebleus) {
  const BleuOptions raw{.tokenize = BleuTokenizer::kNone,
                        .smooth = BleuSmoothing::kFloor,
                        .smooth_value = 0.01,
                        .effective_order = true};
  const auto score = [&](const Lines& hyps, const Lines& refs) {
    return corpus_bleu(hyps, {refs}, raw).score / 100;
  };
  EXPECT_EQ(score({"this is a test", "another test"}, {"ref1", "ref2"}), 0.0);
  EXPECT_NEAR(score({"this is a test"}, {"this is a test"}), 1.0, 1e-8);
  EXPECT_NEAR(score({"this is a fest"}, {"this is a test"}), 0.223606797749979, 1e-8);
  EXPECT_NEAR(score({"test"}, {"a test"}), 0.3678794411714425, 1e-8);
  EXPECT_NEAR(score({"a test"}, {"a test"}), 1.0, 1e-8);
  EXPECT_NEAR(score({"a little test"}, {"a test"}), 0.03218297948685433, 1e-8);
}

// test_bleu.py, test_statistics and test_offset.
TEST(Bleu, CountsMatchesOfEachOrder) {
  const Lines hyp = {"am I am a character sequence"};
  const References ref = {{"I am a symbol string sequence a a"}};
  BleuOptions raw{.tokenize = BleuTokenizer::kNone, .smooth = BleuSmoothing::kFloor, .effective_order = true};
  const BleuScore s = corpus_bleu(hyp, ref, raw);
  EXPECT_EQ(s.counts, (std::vector<int64_t>{4, 2, 1, 0}));
  EXPECT_EQ(s.totals, (std::vector<int64_t>{6, 5, 4, 3}));
  EXPECT_NEAR(s.score / 100, 0.1555722182, 1e-8);
  raw.smooth_value = 0.0;
  EXPECT_NEAR(corpus_bleu(hyp, ref, raw).score, 0.0, 1e-8);
}

// test_bleu.py, test_scoring and test_degenerate_statistics.
TEST(Bleu, FromCountsIsSacrebleus) {
  const auto from = [](std::vector<int64_t> common, std::vector<int64_t> total, int64_t hyp, int64_t ref,
                       const BleuOptions& options) {
    return bleu_from_counts(common, total, hyp, ref, options).score / 100;
  };
  EXPECT_NEAR(from({9, 7, 5, 3}, {10, 8, 6, 4}, 11, 11, {.smooth = BleuSmoothing::kNone}), 0.8375922397,
              1e-8);
  const auto floor = [](double value) {
    return BleuOptions{.smooth = BleuSmoothing::kFloor, .smooth_value = value};
  };
  EXPECT_EQ(from({0, 0, 0, 0}, {4, 4, 2, 1}, 0, 1, floor(0)), 0.0);
  EXPECT_EQ(from({0, 0, 0, 0}, {10, 11, 12, 0}, 14, 10, floor(0)), 0.0);
  EXPECT_EQ(from({6, 5, 4, 0}, {6, 5, 4, 3}, 6, 6, floor(0)), 0.0);
  EXPECT_EQ(from({0, 0, 0, 0}, {0, 0, 0, 0}, 0, 0, floor(0.1)), 0.0);
  EXPECT_EQ(from({0, 0, 0, 0}, {0, 0, 0, 0}, 1, 5, floor(0.01)), 0.0);
}

// sacrebleu test/test_sentence_bleu.py (sacreBLEU issue 98), at its tolerance.
TEST(SentenceBleu, OfEverySmoothingAndTokenisationIsSacrebleus) {
  const std::string hyp = "Producția de zahăr primă va fi exprimată în ceea ce privește zahărul alb;";
  const Lines ref = {"producţia de zahăr brut se exprimă în zahăr alb;"};
  const auto score = [&](const BleuOptions& options) { return sentence_bleu(hyp, ref, options).score; };
  EXPECT_NEAR(score({}), 8.493, 1e-3);
  EXPECT_NEAR(score({.smooth = BleuSmoothing::kNone}), 0.0, 1e-3);
  EXPECT_NEAR(score({.smooth = BleuSmoothing::kFloor}), 4.51688, 1e-3);
  EXPECT_NEAR(score({.smooth = BleuSmoothing::kFloor, .smooth_value = 0.5}), 10.10, 1e-3);
  EXPECT_NEAR(score({.smooth = BleuSmoothing::kAddK}), 14.882, 1e-3);
  EXPECT_NEAR(score({.smooth = BleuSmoothing::kAddK, .smooth_value = 2}), 21.389, 1e-3);
  EXPECT_NEAR(score({.tokenize = BleuTokenizer::kNone}), 7.347, 1e-3);
  EXPECT_NEAR(score({.tokenize = BleuTokenizer::kIntl}), 8.493, 1e-3);
  EXPECT_NEAR(score({.tokenize = BleuTokenizer::kChar}), 40.8759, 1e-3);
  EXPECT_NEAR(score({.tokenize = BleuTokenizer::kChar, .lowercase = true}), 42.0267, 1e-3);
}

// test_sentence_bleu.py, test_cases_zero_bleu (sacreBLEU issue 141).
TEST(SentenceBleu, NoSmoothingInventsMatches) {
  for (const auto smooth :
       {BleuSmoothing::kExp, BleuSmoothing::kNone, BleuSmoothing::kFloor, BleuSmoothing::kAddK})
    EXPECT_EQ(sentence_bleu("this is a cat", {"okay thanks"}, {.smooth = smooth}).score, 0.0) << name(smooth);
}

TEST(Bleu, OfTheReferenceItselfIsAHundredUnderEveryTokenisation) {
  const Lines text = {"Der Hund, der 3,5 Jahre alt ist, läuft.", "我爱北京天安门,对吧?",
                      "Ναι — ΟΔΥΣΣΕΥΣ & co."};
  for (const std::string& tok : bleu_tokenizer_names())
    EXPECT_NEAR(corpus_bleu(text, {text}, {.tokenize = parse_bleu_tokenizer(tok)}).score, 100.0, 1e-9) << tok;
}

TEST(Bleu, DoesNotDependOnTheOrderOfReferencesOrSentences) {
  const double score = corpus_bleu(kHyps, kRefs).score;
  EXPECT_EQ(corpus_bleu(kHyps, {kRefs[1], kRefs[0]}).score, score);
  const auto turned = [](Lines x) {
    std::reverse(x.begin(), x.end());
    return x;
  };
  EXPECT_EQ(corpus_bleu(turned(kHyps), {turned(kRefs[0]), turned(kRefs[1])}).score, score);
}

// test_bleu.py: empty hypotheses are scored, not dropped.
TEST(Bleu, OfEmptyHypothesesIsZeroAndCountsTheirReferences) {
  const BleuScore s = corpus_bleu(Lines{"", "", ""}, kRefs);
  EXPECT_EQ(s.score, 0.0);
  EXPECT_EQ(s.hyp_len, 0);
  EXPECT_EQ(s.ref_len, 6 + 5 + 6);
  EXPECT_EQ(s.bp, 0.0);
}

TEST(Bleu, TakesTheShorterOfTwoEquallyNearReferences) {
  EXPECT_EQ(corpus_bleu(Lines{"a b c"}, {{"a b c d"}, {"a b"}}).ref_len, 2);
}

TEST(Bleu, TakesAMissingReferenceAsMissing) {
  const BleuScore s = corpus_bleu(kHyps, {kRefs[0], {"", "", kRefs[1][2]}});
  EXPECT_EQ(s.signature.substr(0, 9), "nrefs:var");
  EXPECT_NE(s.score, corpus_bleu(kHyps, {kRefs[0]}).score);
  const BleuScore same = corpus_bleu(kHyps, {kRefs[0], {"", "", ""}});
  EXPECT_EQ(same.score, corpus_bleu(kHyps, {kRefs[0]}).score);
  EXPECT_EQ(same.signature.substr(0, 7), "nrefs:1");
}

TEST(Bleu, ScoresTextThatIsNotUtf8) {
  const Lines broken = {"the \xff\xc3 man bit a dog today"};
  EXPECT_NEAR(corpus_bleu(broken, {broken}).score, 100.0, 1e-9);
  EXPECT_NEAR(corpus_bleu(broken, {broken}, {.tokenize = BleuTokenizer::kIntl, .lowercase = true}).score,
              100.0, 1e-9);
}

TEST(Bleu, ErrorsSayWhatIsMissing) {
  std::string text;
  EXPECT_EQ(code_of([] { corpus_bleu({}, {{}}); }, &text), ErrorCode::kValue);
  EXPECT_EQ(text, "BLEU: there are no sentences to score");
  EXPECT_EQ(code_of([] { corpus_bleu(kHyps, {}); }, &text), ErrorCode::kValue);
  EXPECT_EQ(text, "BLEU: there are no references");
  EXPECT_EQ(code_of([] { corpus_bleu(kHyps, {kRefs[0], {"one"}}); }, &text), ErrorCode::kValue);
  EXPECT_EQ(text, "BLEU: 3 hypotheses, but reference 2 has 1 sentences");
  EXPECT_EQ(code_of([] { corpus_bleu(kHyps, {{"a", "", "b"}}); }, &text), ErrorCode::kValue);
  EXPECT_EQ(text,
            "BLEU: sentence 2 has no reference: it is empty there; leave the sentence out on both sides");
  EXPECT_EQ(code_of([] { Bleu({.max_order = 0}); }), ErrorCode::kValue);
  EXPECT_EQ(code_of([] { Bleu({.smooth = BleuSmoothing::kExp, .smooth_value = 1}); }), ErrorCode::kValue);
  EXPECT_EQ(code_of([] { Bleu({.smooth = BleuSmoothing::kFloor, .smooth_value = -1}); }), ErrorCode::kValue);
  EXPECT_EQ(code_of([] { parse_bleu_smoothing("add1"); }, &text), ErrorCode::kValue);
  EXPECT_EQ(text, "bleu: unknown smoothing \"add1\"; there is exp, floor, add-k, none");
}

TEST(BleuByLength, PutsEachSentenceIntoTheBucketOfItsSourceLength) {
  const Lines sources = {"a b c d e", "a b c d e f", ""};
  const auto buckets = bleu_by_length(sources, kHyps, kRefs);
  ASSERT_EQ(buckets.size(), 6u);
  EXPECT_EQ(buckets[0].label(), "1-5");
  EXPECT_EQ(buckets[1].label(), "6-10");
  EXPECT_EQ(buckets[5].label(), "31+");
  EXPECT_EQ(buckets[0].n_sentences, 2);  // an empty source counts to the shortest
  EXPECT_EQ(buckets[1].n_sentences, 1);
  EXPECT_EQ(buckets[2].n_sentences, 0);
  const double second = corpus_bleu(Lines{kHyps[1]}, {{kRefs[0][1]}, {kRefs[1][1]}}).score;
  EXPECT_EQ(buckets[1].bleu.score, second);
}

TEST(BleuByLength, OfOneBucketIsTheCorpusScore) {
  const auto buckets = bleu_by_length(kHyps, kHyps, kRefs, {}, {});
  ASSERT_EQ(buckets.size(), 1u);
  EXPECT_EQ(buckets[0].label(), "1+");
  EXPECT_EQ(buckets[0].bleu.score, corpus_bleu(kHyps, kRefs).score);
}

TEST(BleuByLength, RefusesEdgesThatDoNotRise) {
  EXPECT_EQ(code_of([] {
              bleu_by_length(kHyps, kHyps, kRefs, {}, std::vector<int64_t>{5, 5});
            }),
            ErrorCode::kValue);
  EXPECT_EQ(code_of([] { bleu_by_length(kHyps, kHyps, kRefs, {}, std::vector<int64_t>{0}); }),
            ErrorCode::kValue);
  EXPECT_EQ(code_of([] { bleu_by_length(Lines{"a"}, kHyps, kRefs); }), ErrorCode::kValue);
}

}  // namespace
}  // namespace qkv::scores
