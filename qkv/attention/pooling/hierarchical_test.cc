#include "qkv/attention/pooling/hierarchical.h"

#include <algorithm>

#include "qkv/attention/multi_head.h"
#include "qkv/attention/test_cases.h"
#include "qkv/autograd/ops/cross_entropy.h"
#include "qkv/autograd/ops/embedding.h"
#include "qkv/base/parallel.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

using namespace test;
using Values = std::vector<double>;

// Documents of 2, 0, 1 and 3 sentences, of which two are without words.
const TwoLevels kRows = TwoLevels::of({{3, 0}, {}, {65}, {1, 4, 0}});

PoolingPtr make(ParameterSet& set, const std::string& name, std::string_view kind, int64_t d,
                int64_t n_vectors = 1) {
  return make_pooling(kind, set, name, {.d_model = d, .n_vectors = n_vectors, .n_heads = 1});
}

HierarchicalPooling both(ParameterSet& set, std::string_view kind, int64_t d) {
  return {{.encoder = nullptr, .pooling = make(set, "words", kind, d)},
          {.encoder = nullptr, .pooling = make(set, "sentences", kind, d)}};
}

Tensor run(const HierarchicalPooling& han, const Tensor& x, const TwoLevels& rows, Probe* probe = nullptr) {
  Pass pass = Pass::running(x.dtype());
  return han(pass, Var(x), rows, probe).value();
}

// Sentences weigh the same, however long they are; a sentence without words is a sentence.
TEST(HierarchicalPooling, OfMeansIsTheMeanOfSentenceMeans) {
  ParameterSet set(1, DType::kF64);
  const Tensor x = Tensor::from({4, 1}, {1, 3, 10, 6}, DType::kF64);
  EXPECT_EQ(run(both(set, "mean", 1), x, TwoLevels::of({{2, 1}, {}, {1, 0}})).values(),
            (Values{(2 + 10) / 2.0, 0, 3}));
}

// Yang et al. 2016, eq. 5-10, one number at a time.
TEST(HierarchicalPooling, IsWhatThePaperWrites) {
  const int64_t d = 4;
  ParameterSet set(1, DType::kF64);
  const HierarchicalPooling han = both(set, "additive", d);
  for (const char* bias : {"words.proj.bias", "sentences.proj.bias"})
    set.find(bias)->set_value(random_tensor({d}, 9));
  const Tensor x = random_tensor({kRows.sentences().n_tokens(), d}, 1);
  std::vector<Values> word_weights, sentence_weights;
  const auto pool = [&](const std::string& level, const std::vector<Values>& rows,
                        std::vector<Values>& weights) {
    const Tensor w = set.find(level + ".proj.weight")->value(), b = set.find(level + ".proj.bias")->value(),
                 context = set.find(level + ".score.v")->value();
    Values exps, out(d);
    double total = 0;
    for (const Values& h : rows) {
      double score = 0;
      for (int64_t a = 0; a < d; ++a) {
        double u = b.at({a});
        for (int64_t c = 0; c < d; ++c) u += w.at({a, c}) * h[static_cast<size_t>(c)];
        score += context.at({0, a}) * std::tanh(u);
      }
      exps.push_back(std::exp(score));
      total += exps.back();
    }
    for (size_t t = 0; t < rows.size(); ++t) {
      exps[t] /= total;
      for (size_t c = 0; c < out.size(); ++c) out[c] += exps[t] * rows[t][c];
    }
    weights.push_back(exps);
    return out;
  };
  Values expected;
  int64_t sentence = 0, token = 0;
  for (int64_t doc = 0; doc < kRows.documents().size(); ++doc) {
    std::vector<Values> vectors;
    for (int64_t s = 0; s < kRows.documents().length(doc); ++s, ++sentence) {
      std::vector<Values> words;
      for (int64_t t = 0; t < kRows.sentences().length(sentence); ++t, ++token)
        words.push_back(x.rows(token, token + 1).values());
      vectors.push_back(pool("words", words, word_weights));
    }
    const Values one = pool("sentences", vectors, sentence_weights);
    expected.insert(expected.end(), one.begin(), one.end());
  }

  Probe probe;
  const Values got = run(han, x, kRows, &probe).values();
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-12);
  ASSERT_EQ(probe.rows.size(), word_weights.size() + sentence_weights.size());
  for (const AttentionRow& row : probe.rows) {
    const Values& weights =
        (row.site == "words" ? word_weights : sentence_weights).at(static_cast<size_t>(row.sequence));
    ASSERT_EQ(row.attn_weights.size(), weights.size()) << row.site;
    for (size_t t = 0; t < weights.size(); ++t)
      EXPECT_NEAR(row.attn_weights[t], weights[t], 1e-7) << row.site;
  }
}

// Self-attention among words and among sentences, and vectors that are wider above than below.
struct WithEncoders {
  explicit WithEncoders(std::string_view kind, DType masters)
      : set(2, masters),
        words(set, "word_encoder", {.d_model = 4, .n_heads = 2, .n_kv_heads = 2, .d_k = 2, .d_v = 2}),
        sentences(set, "sentence_encoder", {.d_model = 8, .n_heads = 1, .n_kv_heads = 1, .d_k = 4, .d_v = 4}),
        han({.encoder = self(words), .pooling = make(set, "words", "structured", 4, 2)},
            {.encoder = self(sentences), .pooling = make(set, "sentences", kind, 8)}) {}
  static RowEncoder self(const MultiHeadAttention& layer) {
    return [&layer](Pass& pass, const Var& x, const Segments& rows, Probe* probe) {
      return layer(pass, x, rows, x, rows, {}, probe);
    };
  }
  ParameterSet set;
  MultiHeadAttention words, sentences;
  HierarchicalPooling han;
};

TEST(HierarchicalPooling, GradientsMatchFiniteDifferences) {
  const TwoLevels rows = TwoLevels::of({{2, 0}, {}, {3, 1, 2}});
  for (std::string_view kind : {"additive", "class_token"}) {
    const WithEncoders made(kind, DType::kF64);
    const auto f = [&](const std::vector<Var>& x) {
      Pass pass = Pass::running(DType::kF64);
      return made.han(pass, x[0], rows);
    };
    EXPECT_EQ(gradcheck(f, {random_tensor({8, 4}, 1)}, made.set.all()), "") << kind;
  }
}

TEST(HierarchicalPooling, GivesADocumentTheSameBitsAloneWhateverTheBatchHolds) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16})
    for (std::string_view kind : pooling_names()) {
      const WithEncoders made(kind, accumulator_dtype(dtype));
      const Tensor x = random_tensor({kRows.sentences().n_tokens(), 4}, 1, dtype);
      x.rows(3, 68).fill(std::nan(""));  // the third document
      const Tensor all = run(made.han, x, kRows);
      const std::string what = std::string(kind) + " " + std::string(name(dtype));
      expect_equal_bits(run(made.han, x.rows(0, 3), TwoLevels::of({{3, 0}})), all.rows(0, 1), what);
      expect_equal_bits(run(made.han, x.rows(68, 73), TwoLevels::of({{1, 4, 0}})), all.rows(3, 4), what);
      EXPECT_EQ(all.rows(1, 2).values(), Values(8)) << what;
    }
}

TEST(HierarchicalPooling, LevelsThatDisagreeAreRefused) {
  EXPECT_ERROR(kShape, "two levels: the documents hold 3 sentences, but there are 2",
               TwoLevels(Segments({4, 5}), Segments({1, 2})));
  ParameterSet set(1);
  EXPECT_ERROR(kValue, "hierarchical pooling: sentences have no pooling",
               HierarchicalPooling({.encoder = nullptr, .pooling = make(set, "w", "mean", 1)}, {}));
  const HierarchicalPooling han = both(set, "mean", 2);
  EXPECT_ERROR(kShape, "pooling words: x has 3 rows, the sequences have 4",
               (void)run(han, Tensor::zeros({3, 2}, DType::kF32), TwoLevels::of({{4}})));
}

// Documents of common words. In classes 0 and 1 one word of one sentence tells the class; class 2 has none,
// so that neither of the others is known by what is missing.
struct Planted {
  std::vector<int32_t> ids, classes;
  std::vector<std::vector<int64_t>> lengths;
  std::vector<int64_t> sentence, word;  // where each document's is: a sentence of it, a word of that
};
Planted plant(int64_t n, uint64_t seed) {
  RandomStream random({.seed = seed});
  const auto below = [&](int64_t bound) {
    return static_cast<int64_t>(random.below(static_cast<uint64_t>(bound)));
  };
  Planted p;
  for (int64_t doc = 0; doc < n; ++doc) {
    p.lengths.emplace_back();
    for (int64_t s = 2 + below(3); s > 0; --s) p.lengths.back().push_back(3 + below(4));
    p.sentence.push_back(below(static_cast<int64_t>(p.lengths.back().size())));
    p.word.push_back(below(p.lengths.back()[static_cast<size_t>(p.sentence.back())]));
    p.classes.push_back(static_cast<int32_t>(below(3)));
    for (int64_t s = 0; s < static_cast<int64_t>(p.lengths.back().size()); ++s)
      for (int64_t t = 0; t < p.lengths.back()[static_cast<size_t>(s)]; ++t) {
        const bool here = p.classes.back() < 2 && s == p.sentence.back() && t == p.word.back();
        p.ids.push_back(here ? p.classes.back() : static_cast<int32_t>(2 + below(20)));
      }
  }
  return p;
}

TEST(HierarchicalPooling, LearnsToFindAPlantedWordInAPlantedSentence) {
  set_threads(1);  // steps of a millisecond: a busy machine's threads wait for each other
  const int64_t d = 8;
  ParameterSet set(1);
  const ParameterPtr table = set.normal("embedding", {22, d}, 0.5),
                     classes = set.xavier_uniform("classes", {3, d});
  const HierarchicalPooling han = both(set, "additive", d);
  const auto forward = [&](const Planted& p, Probe* probe) {
    Pass pass = Pass::running(DType::kF32);
    const Var x = embedding(p.ids, table, 1, {}, nullptr, DType::kF32);
    const Var documents = han(pass, x, TwoLevels::of(p.lengths), probe);
    return cross_entropy(documents, classes, nullptr, p.classes, 0,
                         1.0 / static_cast<double>(p.classes.size()));
  };
  const Planted train = plant(100, 1), test = plant(50, 2);
  for (int step = 0; step < 150; ++step) {
    backward(forward(train, nullptr).loss);
    for (const ParameterPtr& p : set.all()) {
      for (int64_t i = 0; i < p->value().numel(); ++i)
        p->value().data<float>()[i] -= 4 * p->grad().data<float>()[i];
      p->value_changed();
      p->zero_grad();
    }
  }

  Probe probe;
  const NoGrad off;
  EXPECT_LT(forward(test, &probe).nll_sum, 0.05 * 50);
  const TwoLevels rows = TwoLevels::of(test.lengths);
  const auto points_at = [](const AttentionRow& row, int64_t place) {
    const auto most = std::max_element(row.attn_weights.begin(), row.attn_weights.end());
    return most - row.attn_weights.begin() == place && *most > 0.5f;
  };
  for (size_t doc = 0; doc < test.lengths.size(); ++doc) {
    if (test.classes[doc] == 2) continue;
    const int64_t sentence = rows.documents().begin(static_cast<int64_t>(doc)) + test.sentence[doc];
    for (const AttentionRow& row : probe.rows) {
      if (row.site == "sentences" && row.sequence == static_cast<int64_t>(doc)) {
        EXPECT_TRUE(points_at(row, test.sentence[doc])) << doc;
      }
      if (row.site == "words" && row.sequence == sentence) {
        EXPECT_TRUE(points_at(row, test.word[doc])) << doc;
      }
    }
  }
  set_threads(0);
}

}  // namespace
}  // namespace qkv
