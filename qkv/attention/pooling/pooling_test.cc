// Every pooling: by hand, against its definition in plain loops, its gradients, and what all of them promise.

#include "qkv/attention/pooling.h"

#include "qkv/attention/test_cases.h"
#include "qkv/autograd/ops/linear.h"
#include "qkv/base/parallel.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

using namespace test;
using Values = std::vector<double>;

const std::vector<int64_t> kLengths{1, 5, 0, 7, 63, 64, 65, 130, 3};

PoolingConfig config_of(std::string_view kind) {
  PoolingConfig c{.d_model = 6, .d_attention = 5, .n_heads = 2, .d_ff = 7, .site = "here", .layer = 2};
  if (kind == "structured" || kind == "pma") c.n_vectors = 3;
  return c;
}

// A pooling whose parameters are not where they start: biases and gains are no longer 0 and 1.
struct Made {
  explicit Made(std::string_view name, DType masters = DType::kF64)
      : kind(name), set(3, masters), pooling(make_pooling(kind, set, "pool", config_of(kind))) {
    uint64_t seed = 40;
    for (const ParameterPtr& p : set.all())
      p->set_value(random_tensor(p->value().shape(), ++seed, masters, 0.7));
  }
  std::string kind;
  ParameterSet set;
  PoolingPtr pooling;

  Var operator()(const Var& x, const Segments& rows, Probe* probe = nullptr) const {
    Pass pass = Pass::running(x.dtype());
    const PackedRows in = pooling->prepare(x, rows);
    return (*pooling)(pass, in.x, in.segments, probe);
  }
};

// The papers' formulae, one sequence and one number at a time: in float64 (A is double), or a plain
// evaluation in another dtype, whose sums are in A and whose vectors are rounded to it.
template <class A = double>
class Definition {
 public:
  using V = std::vector<A>;
  Definition(const ParameterSet& set, const PoolingConfig& config, DType dtype = DType::kF64)
      : set_(set), c_(config), dtype_(dtype) {}

  // Rows of weights, one a vector; heads of pma one after the other within a vector.
  std::vector<V> weights;

  V operator()(std::string_view kind, const std::vector<V>& x) {
    if (x.empty()) return V(static_cast<size_t>(c_.n_vectors * c_.d_model));
    if (kind == "first") return x.front();
    if (kind == "last") return x.back();
    if (kind == "class_token") return rounded(parameter("token"));
    if (kind == "mean") return average(x, V(x.size(), 1 / static_cast<A>(x.size())), 0, 6);
    if (kind == "max") {
      V most = x[0];
      for (const V& row : x)
        for (size_t d = 0; d < row.size(); ++d) most[d] = std::max(most[d], row[d]);
      return most;
    }
    return kind == "pma" ? pma(x) : additive(x);
  }

  A penalty(const std::vector<V>& x) {
    if (x.empty()) return 0;
    (void)additive(x);
    A total = 0;
    for (size_t r = 0; r < weights.size(); ++r)
      for (size_t q = 0; q < weights.size(); ++q) {
        A sum = r == q ? -1 : 0;
        for (size_t t = 0; t < x.size(); ++t) sum += weights[r][t] * weights[q][t];
        total += sum * sum;
      }
    return total;
  }

 private:
  V rounded(const V& x) const {
    const std::vector<double> values(x.begin(), x.end());
    const std::vector<double> y = Tensor::from({static_cast<int64_t>(x.size())}, values, dtype_).values();
    return V(y.begin(), y.end());
  }
  V parameter(const std::string& name) const {
    const ParameterPtr p = set_.find("pool." + name);
    const std::vector<double> y = p ? p->value().values() : std::vector<double>();
    return V(y.begin(), y.end());
  }
  V linear(const std::string& name, const V& x) const {
    const V w = parameter(name + ".weight");
    V y = parameter(name + ".bias");
    y.resize(w.size() / x.size());
    for (size_t n = 0; n < y.size(); ++n)
      for (size_t d = 0; d < x.size(); ++d) y[n] += w[n * x.size() + d] * x[d];
    return rounded(y);
  }
  V feed_forward(const std::string& name, const V& x) const {
    V h = linear(name + ".in", x);
    for (A& v : h) v = std::max(v, A(0));
    return linear(name + ".out", h);
  }
  V norm(const std::string& name, const V& x) const {
    const V gain = parameter(name + ".weight"), bias = parameter(name + ".bias");
    const A n = static_cast<A>(x.size());
    A mean = 0, variance = 0;
    for (A v : x) mean += v / n;
    for (A v : x) variance += (v - mean) * (v - mean) / n;
    V y;
    for (size_t d = 0; d < x.size(); ++d)
      y.push_back((x[d] - mean) / std::sqrt(variance + A(1e-5)) * gain[d] + bias[d]);
    return rounded(y);
  }
  V softmax(V s) const {
    s = rounded(s);
    A sum = 0;
    for (A& v : s) sum += v = std::exp(v);
    for (A& v : s) v /= sum;
    return rounded(s);
  }
  V average(const std::vector<V>& x, V w, size_t begin, size_t end) {
    V y(end - begin);
    for (size_t t = 0; t < x.size(); ++t)
      for (size_t d = begin; d < end; ++d) y[d - begin] += w[t] * x[t][d];
    weights.push_back(std::move(w));
    return rounded(y);
  }
  V sum(const V& a, const V& b) const {
    V y = a;
    for (size_t d = 0; d < y.size(); ++d) y[d] += b[d];
    return rounded(y);
  }

  V additive(const std::vector<V>& x) {
    const V contexts = parameter("score.v");
    V all;
    for (int64_t m = 0; m < c_.n_vectors; ++m) {
      V s;
      for (const V& row : x) {
        const V u = linear("proj", row);
        s.push_back(0);
        for (size_t a = 0; a < u.size(); ++a)
          s.back() += contexts[static_cast<size_t>(m) * u.size() + a] * std::tanh(u[a]);
      }
      const V one = average(x, softmax(s), 0, x[0].size());
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }

  V pma(const std::vector<V>& x) {
    std::vector<V> keys, values;
    for (const V& row : x) {
      const V z = feed_forward("memory_ff", row);
      keys.push_back(linear("attn.k_proj", z));
      values.push_back(linear("attn.v_proj", z));
    }
    const V seeds = rounded(parameter("seeds"));
    V all;
    for (size_t m = 0; m < static_cast<size_t>(c_.n_vectors); ++m) {
      const size_t d_model = x[0].size(), d_head = d_model / static_cast<size_t>(c_.n_heads);
      const V seed(seeds.begin() + static_cast<int64_t>(m * d_model),
                   seeds.begin() + static_cast<int64_t>((m + 1) * d_model));
      const V q = linear("attn.q_proj", seed);
      V heads;
      for (size_t begin = 0; begin < d_model; begin += d_head) {
        V s;
        for (const V& k : keys) {
          s.push_back(0);
          for (size_t d = begin; d < begin + d_head; ++d)
            s.back() += q[d] * k[d] / std::sqrt(static_cast<A>(d_head));
        }
        const V one = average(values, softmax(s), begin, begin + d_head);
        heads.insert(heads.end(), one.begin(), one.end());
      }
      const V h = norm("norm1", sum(seed, linear("attn.out_proj", heads)));
      const V out = norm("norm2", sum(h, feed_forward("ff", h)));
      all.insert(all.end(), out.begin(), out.end());
    }
    return all;
  }

  const ParameterSet& set_;
  PoolingConfig c_;
  DType dtype_;
};

template <class A = double>
std::vector<std::vector<A>> sequence_of(const Tensor& x, const Segments& rows, int64_t b) {
  std::vector<std::vector<A>> out;
  for (int64_t r = rows.begin(b); r < rows.begin(b) + rows.length(b); ++r) {
    const Values row = x.rows(r, r + 1).values();
    out.emplace_back(row.begin(), row.end());
  }
  return out;
}

template <class A = double>
Values by_definition(const Made& made, const Tensor& x, const Segments& rows, DType dtype = DType::kF64) {
  Values all;
  for (int64_t b = 0; b < rows.size(); ++b) {
    Definition<A> definition(made.set, config_of(made.kind), dtype);
    const std::vector<A> one = definition(made.kind, sequence_of<A>(x, rows, b));
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

double distance(const Values& a, const Values& b) {
  EXPECT_EQ(a.size(), b.size());
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i)
    most = std::abs(a[i] - b[i]) <= most ? most : std::abs(a[i] - b[i]);  // NaN wins
  return most;
}

TEST(Pooling, WithEqualScoresIsTheMeanAndABigContextChooses) {
  ParameterSet set(1, DType::kF64);
  const PoolingPtr pooling = make_pooling("additive", set, "p", {.d_model = 1});
  Pass pass = Pass::running(DType::kF64);
  const Var x(Tensor::from({3, 1}, {-1, 0, 4}, DType::kF64));
  set.find("p.score.v")->set_value(Tensor::zeros({1, 1}, DType::kF64));
  EXPECT_DOUBLE_EQ((*pooling)(pass, x, Segments({3})).value().at({0, 0}), 1);
  // u = tanh(h): scores are 2 tanh(-1), 0, 2 tanh(4).
  set.find("p.proj.weight")->set_value(Tensor::full({1, 1}, DType::kF64, 1));
  set.find("p.score.v")->set_value(Tensor::full({1, 1}, DType::kF64, 2));
  const double a = std::exp(2 * std::tanh(-1.0)), c = std::exp(2 * std::tanh(4.0));
  EXPECT_NEAR((*pooling)(pass, x, Segments({3})).value().at({0, 0}), (4 * c - a) / (a + 1 + c), 1e-12);
}

TEST(Pooling, EachIsWhatItsPaperWrites) {
  const Segments rows(kLengths);
  const Tensor x = random_tensor({rows.n_tokens(), 6}, 1);
  for (std::string_view kind : pooling_names()) {
    const Made made(kind);
    const Tensor got = made(Var(x), rows).value();
    EXPECT_EQ(got.shape(), (Shape{rows.size(), config_of(kind).n_vectors * 6})) << kind;
    EXPECT_EQ(got.size(1), made.pooling->d_out()) << kind;
    EXPECT_LE(distance(got.values(), by_definition(made, x, rows)), 1e-12) << kind;
  }
}

// Rows that are columns of something wider.
TEST(Pooling, TakesRowsThatAreStrided) {
  const Segments rows({4, 2});
  const Tensor wide = random_tensor({6, 9}, 1);
  for (std::string_view kind : pooling_names())
    expect_equal_bits(Made(kind)(Var(wide.columns(2, 8)), rows).value(),
                      Made(kind)(Var(wide.columns(2, 8).contiguous()), rows).value(), std::string(kind));
}

TEST(Pooling, OfFewerBitsErrsAtMostTwiceAsMuchAsAPlainEvaluation) {
  const Segments rows(kLengths);
  for (DType dtype : {DType::kF32, DType::kBF16})
    for (std::string_view kind : pooling_names()) {
      const Made made(kind, DType::kF32);
      const Tensor x = random_tensor({rows.n_tokens(), 6}, 1, dtype);
      const Values exact = by_definition(made, x, rows), plain = by_definition<float>(made, x, rows, dtype);
      EXPECT_LE(distance(made(Var(x), rows).value().values(), exact), 2 * distance(plain, exact))
          << kind << " " << name(dtype);
    }
}

TEST(Pooling, GradientsMatchFiniteDifferences) {
  const Segments rows({2, 0, 3, 1});
  for (std::string_view kind : pooling_names()) {
    const Made made(kind);
    const auto f = [&](const std::vector<Var>& x) { return made(x[0], rows); };
    EXPECT_EQ(gradcheck(f, {random_tensor({6, 6}, 1)}, made.set.all()), "") << kind;
  }
}

TEST(Pooling, OfRowsAcrossTilesHasTheSameGradients) {
  const Segments rows({65, 1});
  for (std::string_view kind : {"structured", "mean"}) {
    const Made made(kind);
    const auto f = [&](const std::vector<Var>& x) { return made(x[0], rows); };
    EXPECT_EQ(gradcheck(f, {random_tensor({66, 6}, 1)}, made.set.all()), "") << kind;
  }
}

TEST(Pooling, GivesASequenceTheSameBitsAloneAndOnAnyNumberOfThreads) {
  const Segments rows(kLengths);
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16})
    for (std::string_view kind : pooling_names()) {
      const Made made(kind, accumulator_dtype(dtype));
      const Tensor x = random_tensor({rows.n_tokens(), 6}, 1, dtype),
                   dy = random_tensor({rows.size(), made.pooling->d_out()}, 2, dtype);
      const auto run = [&](const Tensor& in, const Segments& segments, const Tensor& gradient) {
        for (const ParameterPtr& p : made.set.all()) p->zero_grad();
        const Var var(in, true);
        const Var out = made(var, segments);
        if (kind != "class_token" || segments.n_tokens() > 0) backward(out, gradient);
        return std::pair{out.value(),
                         var.grad().defined() ? var.grad() : Tensor::zeros(in.shape(), in.dtype())};
      };
      set_threads(1);
      const auto [out, dx] = run(x, rows, dy);
      std::vector<Values> gradients;
      for (const ParameterPtr& p : made.set.all()) gradients.push_back(p->grad().values());
      set_threads(3);
      const auto [threaded, threaded_dx] = run(x, rows, dy);
      set_threads(0);
      const std::string what = std::string(kind) + " " + std::string(name(dtype));
      expect_equal_bits(threaded, out, what);
      expect_equal_bits(threaded_dx, dx, what);
      for (size_t i = 0; i < gradients.size(); ++i)
        EXPECT_EQ(made.set.all()[i]->grad().values(), gradients[i]) << what;
      for (int64_t b = 0; b < rows.size(); ++b) {
        const int64_t begin = rows.begin(b), end = begin + rows.length(b);
        const auto [alone, alone_dx] = run(x.rows(begin, end), Segments({end - begin}), dy.rows(b, b + 1));
        expect_equal_bits(alone, out.rows(b, b + 1), what);
        expect_equal_bits(alone_dx, dx.rows(begin, end), what);
      }
    }
}

// As many rows as are worth threads in every loop.
TEST(Pooling, OfManyRowsHasTheSameBitsOnAnyNumberOfThreads) {
  const Segments rows(std::vector<int64_t>(20, 600));
  const Tensor x = random_tensor({rows.n_tokens(), 6}, 1, DType::kF32);
  const auto run = [&](int team, auto&& f) {
    set_threads(team);
    const Var var(x, true);
    const Var out = f(var);
    backward(out);
    set_threads(0);
    return std::pair{out.value().values(), var.grad().values()};
  };
  const Made max("max", DType::kF32);
  const auto largest = [&](const Var& v) { return max(v, rows); };
  const auto penalty = [&](const Var& v) { return overlap_penalty(v, rows); };
  EXPECT_EQ(run(1, largest), run(3, largest));
  EXPECT_EQ(run(1, penalty), run(3, penalty));
}

TEST(Pooling, KeepsNaNInItsSequence) {
  const Segments rows({3, 70, 4});
  for (std::string_view kind : pooling_names()) {
    const Made made(kind);
    const Tensor x = random_tensor({77, 6}, 1), clean = made(Var(x), rows).value();
    const Tensor dirty = x.clone();
    dirty.rows(3, 73).fill(std::nan(""));
    const Tensor got = made(Var(dirty), rows).value();
    for (int64_t b : {0, 2}) expect_equal_bits(got.rows(b, b + 1), clean.rows(b, b + 1), std::string(kind));
    EXPECT_EQ(std::isnan(got.at({1, 0})), kind != "class_token") << kind;
  }
}

TEST(Pooling, OfNothingIsNothing) {
  for (std::string_view kind : pooling_names()) {
    const Made made(kind);
    const Var none(Tensor::zeros({0, 6}, DType::kF64), true);
    EXPECT_EQ(made(none, Segments()).value().shape(), (Shape{0, made.pooling->d_out()})) << kind;
    const Tensor two = made(none, Segments({0, 0})).value();
    EXPECT_EQ(two.values(), Values(static_cast<size_t>(2 * made.pooling->d_out()))) << kind;
  }
}

// Sequences at the start of buffers of one length, whose other rows a mask hides, whatever they hold.
TEST(Pooling, OfPaddedSequencesIsThatOfPackedOnes) {
  const Segments packed({3, 70, 1, 0});
  const int64_t room = 70, n = packed.size();
  const Made made("structured");
  const Tensor x = random_tensor({packed.n_tokens(), 6}, 1),
               padded = Tensor::empty({n * room, 6}, DType::kF64);
  padded.fill(std::nan(""));
  std::vector<int64_t> lengths;
  for (int64_t b = 0; b < n; ++b) {
    const int64_t begin = packed.begin(b), length = packed.length(b);
    padded.rows(b * room, b * room + length).copy_from(x.rows(begin, begin + length));
    lengths.push_back(length);
  }
  const HeadSizes heads{.n_heads = 3, .n_kv_heads = 1, .d_k = 5, .d_v = 6};
  ParameterSet same(1, DType::kF64);
  const ScorePtr score = additive(same, "score", heads);
  same.find("score.v")->set_value(made.set.find("pool.score.v")->value());
  const Var keys = linear(Var(padded), made.set.find("pool.proj.weight"));
  const Tensor got =
      attention(Var(Tensor::zeros({n, 15}, DType::kF64)), keys, Var(padded), Segments({1, 1, 1, 1}),
                Segments(std::vector<int64_t>(static_cast<size_t>(n), room)),
                {.heads = heads, .score = score, .rules = {key_limit(lengths)}})
          .value();
  expect_equal_bits(got, made(Var(x), packed).value(), "structured");
}

TEST(Pooling, GivesAProbeTheWeightsOfTheDefinition) {
  const Segments rows({3, 65, 0});
  const Tensor x = random_tensor({68, 6}, 1);
  for (std::string_view kind : {"additive", "structured", "pma", "mean"}) {
    const Made made(kind);
    Probe probe{.sites = {"here"}, .layers = {2}};
    (void)made(Var(x), rows, &probe);
    const size_t n_heads = kind == "pma" ? 2 : 1;
    ASSERT_EQ(probe.rows.size(), 3 * n_heads * static_cast<size_t>(config_of(kind).n_vectors)) << kind;
    std::vector<Definition<>> definitions;
    for (int64_t b = 0; b < 3; ++b) {
      definitions.emplace_back(made.set, config_of(kind));
      (void)definitions.back()(kind, sequence_of(x, rows, b));
    }
    for (const AttentionRow& row : probe.rows) {
      const auto vector = static_cast<size_t>(kind == "pma" ? row.position : row.head);
      const size_t head = kind == "pma" ? static_cast<size_t>(row.head) : 0;
      const auto& all = definitions[static_cast<size_t>(row.sequence)].weights;
      double total = 0;
      for (size_t t = 0; t < row.attn_weights.size(); ++t) {
        EXPECT_NEAR(row.attn_weights[t], all.at(vector * n_heads + head)[t], 1e-7) << kind;
        total += row.attn_weights[t];
      }
      EXPECT_NEAR(total, row.attn_weights.empty() ? 0 : 1, 1e-6) << kind;
    }
  }
}

TEST(Pooling, DropsWeightsWhileTrainingAlone) {
  ParameterSet set(1);
  const PoolingPtr pooling = make_pooling("additive", set, "p", {.d_model = 4, .dropout = 0.5});
  const Var x(random_tensor({50, 4}, 1, DType::kF32));
  const auto with = [&](Pass pass) { return (*pooling)(pass, x, Segments({50})).value().values(); };
  EXPECT_EQ(with(Pass::running(DType::kF32)), with(Pass::running(DType::kF32)));
  EXPECT_EQ(with(Pass::training(DType::kF32, 1, 1)), with(Pass::training(DType::kF32, 1, 1)));
  EXPECT_NE(with(Pass::training(DType::kF32, 1, 1)), with(Pass::running(DType::kF32)));
  EXPECT_NE(with(Pass::training(DType::kF32, 1, 1)), with(Pass::training(DType::kF32, 1, 2)));
}

// Two hops of one weight each, on the same row: A A^T is all ones. On different rows: the identity.
TEST(OverlapPenalty, IsWhatTheHopsShare) {
  const auto penalty = [](std::initializer_list<double> scores) {
    return overlap_penalty(Var(Tensor::from({2, 2}, scores, DType::kF64)), Segments({2})).value().at({0, 0});
  };
  EXPECT_NEAR(penalty({50, 50, 0, 0}), 2, 1e-12);
  EXPECT_NEAR(penalty({50, 0, 0, 50}), 0, 1e-12);
  EXPECT_NEAR(penalty({0, 0, 0, 0}), 4 * 0.25, 1e-12);  // A A^T is 1/2 everywhere, 1/2 from I everywhere
}

TEST(OverlapPenalty, IsThePapersForTheWeightsOfThePooling) {
  const Segments rows(kLengths);
  const Tensor x = random_tensor({rows.n_tokens(), 6}, 1);
  const Made made("structured");
  const auto& pooling = dynamic_cast<const AdditivePooling&>(*made.pooling);
  Pass pass = Pass::running(DType::kF64);
  const AdditivePooling::WithPenalty got = pooling.with_penalty(pass, Var(x), rows);
  expect_equal_bits(got.vectors.value(), made(Var(x), rows).value(), "vectors");
  for (int64_t b = 0; b < rows.size(); ++b)
    EXPECT_NEAR(got.penalty.value().at({b, 0}),
                Definition<>(made.set, config_of("structured")).penalty(sequence_of(x, rows, b)), 1e-12);

  const Segments few({2, 0, 3, 1});
  const auto f = [&](const std::vector<Var>& in) { return pooling.with_penalty(pass, in[0], few).penalty; };
  EXPECT_EQ(gradcheck(f, {random_tensor({6, 6}, 1)}, made.set.all()), "");
}

TEST(OverlapPenalty, OfASequenceHasTheSameBitsAloneWhateverTheBatchHolds) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const Segments rows({4, 70, 3});
    const Tensor scores = random_tensor({77, 3}, 1, dtype), dy = random_tensor({3, 1}, 2, dtype);
    scores.rows(4, 5).fill(std::nan(""));
    const Var all(scores, true);
    const Var out = overlap_penalty(all, rows);
    backward(out, dy);
    for (int64_t b : {0, 2}) {
      const int64_t begin = rows.begin(b), end = begin + rows.length(b);
      const Var alone(scores.rows(begin, end), true);
      const Var one = overlap_penalty(alone, Segments({end - begin}));
      backward(one, dy.rows(b, b + 1));
      expect_equal_bits(one.value(), out.value().rows(b, b + 1), "penalty");
      expect_equal_bits(alone.grad(), all.grad().rows(begin, end), "gradient");
    }
    EXPECT_TRUE(std::isnan(out.value().at({1, 0})));
  }
}

TEST(MaxPooling, GivesItsGradientToTheFirstOfEquals) {
  const Made made("max");
  const Tensor x = Tensor::zeros({4, 6}, DType::kF64);
  x.rows(1, 3).fill(5);
  x.slice(0, 2, 3).columns(0, 1).fill(std::nan(""));
  const Var var(x, true);
  const Var out = made(var, Segments({4}));
  backward(out);
  EXPECT_TRUE(std::isnan(out.value().at({0, 0})));
  EXPECT_EQ(out.value().at({0, 1}), 5);
  EXPECT_EQ(var.grad().columns(0, 1).values(), (Values{0, 0, 1, 0}));
  EXPECT_EQ(var.grad().columns(1, 2).values(), (Values{0, 1, 0, 0}));
}

TEST(ClassToken, JoinsEachSequenceThatHasRowsAndLeavesIt) {
  ParameterSet set(1, DType::kF64);
  const ClassToken token(set, "p", {.d_model = 1});
  set.find("p.token")->set_value(Tensor::full({1, 1}, DType::kF64, 9));
  const Segments rows({2, 0, 1});
  const PackedRows in = token.prepare(Var(Tensor::from({3, 1}, {1, 2, 3}, DType::kF64)), rows);
  EXPECT_EQ(in.x.value().values(), (Values{9, 1, 2, 9, 3}));
  EXPECT_EQ(in.segments.length(0), 3);
  EXPECT_EQ(in.segments.length(1), 0);
  EXPECT_EQ(in.segments.begin(2), 3);
  const PackedRows out = ClassToken::without_token(in.x, in.segments);
  EXPECT_EQ(out.x.value().values(), (Values{1, 2, 3}));
  for (int64_t b = 0; b < 3; ++b) EXPECT_EQ(out.segments.length(b), rows.length(b));
  EXPECT_ERROR(kValue, "sequence 0 has 4 tokens in a cache, and the class token comes before them",
               (void)token.prepare(Var(Tensor::zeros({1, 1}, DType::kF64)), Segments({1}, {4})));
}

TEST(ClassToken, TakesWhatTheEncoderPutThere) {
  const Made made("class_token");
  const Segments rows({3, 0, 5});
  const auto f = [&](const std::vector<Var>& x) {
    const PackedRows in = made.pooling->prepare(x[0], rows);
    const Var encoded =
        attention(in.x, in.x, in.x, in.segments, in.segments, {.heads = {.n_heads = 2, .d_k = 3}});
    Pass pass = Pass::running(DType::kF64);
    return (*made.pooling)(pass, encoded, in.segments);
  };
  EXPECT_EQ(gradcheck(f, {random_tensor({8, 6}, 1)}, made.set.all()), "");
}

TEST(Pooling, ThatCannotBeIsRefused) {
  ParameterSet set(1);
  const auto make = [&](std::string_view kind, const PoolingConfig& c) {
    (void)make_pooling(kind, set, "p", c);
  };
  EXPECT_ERROR(kValue, "p: no pooling is called \"aditive\"; did you mean additive?; there are additive, ",
               make("aditive", {.d_model = 4}));
  EXPECT_ERROR(kValue, "pooling p: d_model (0), n_vectors (1)", make("mean", {}));
  EXPECT_ERROR(kValue, "pooling p: n_vectors is 2, but this kind gives 1; additive, structured and pma",
               make("max", {.d_model = 4, .n_vectors = 2}));
  EXPECT_ERROR(kValue, "n_heads (3) does not divide d_model (4)", make("pma", {.d_model = 4, .n_heads = 3}));
  const PoolingPtr mean = make_pooling("mean", set, "p", {.d_model = 4});
  Pass pass = Pass::running(DType::kF32);
  EXPECT_ERROR(kShape, "pooling p: takes rows of 4, got [3, 5]",
               (void)(*mean)(pass, Var(Tensor::zeros({3, 5}, DType::kF32)), Segments({3})));
  EXPECT_ERROR(kShape, "pooling p: x has 3 rows, the sequences have 2",
               (void)(*mean)(pass, Var(Tensor::zeros({3, 4}, DType::kF32)), Segments({2})));
  EXPECT_ERROR(kShape, "overlap_penalty: scores are [3, 4], the sequences have 2 rows",
               (void)overlap_penalty(Var(Tensor::zeros({3, 4}, DType::kF32)), Segments({2})));
}

}  // namespace
}  // namespace qkv
