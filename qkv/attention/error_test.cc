// How exact attention is: the error of the blocked path against float64, beside that of a plain evaluation in
// the same dtype, for every score, position scheme, mask, edit and normalizer, on every family.
//
// QKV_TABLE=1 attention_test --gtest_filter='*Error*' prints the table of docs/results.md.

#include <cstdlib>

#include "qkv/attention/random_case.h"

namespace qkv {
namespace {

using namespace test;

// As one would write it down: scores, softmax and sums in float, in order. Operands, weights and their
// gradients are numbers of T when they meet in products, and results are rounded to T. Preparations of
// queries and keys, and what edits and normalizers do to numbers, are those of the library.
template <class T>
class Plain {
 public:
  explicit Plain(const Drawn& d) : d_(d) {}

  Results run() {
    std::vector<Var> leaves;
    for (const Tensor& x : leaf_values(d_, d_.given)) leaves.emplace_back(x, true);
    const auto [q, options] = on_tape(d_, leaves, AttentionPath::kReference);
    options_ = options;
    const Score& score = score_of(options);
    const Var q_prepared = score.prepare_queries(q, heads_),
              k_prepared = score.prepare_keys(leaves[1], heads_);
    pairing_ = score.pairing(heads_);
    q_ = matrix(q_prepared), k_ = matrix(k_prepared), v_ = matrix(leaves[2]);
    dout_ = matrix(Var(d_.given.dout));
    out_ = {d_.given.q.size(0), heads_.n_heads * heads_.d_v};
    if (options.relative_keys) {
      rows_ = matrix(options.relative_keys->rows);
      own_ = options.relative_keys->queries.defined() ? matrix(options.relative_keys->queries) : q_;
    }
    if (options.relative_values) value_rows_ = matrix(options.relative_values->rows);
    for (int64_t b = 0; b < d_.given.queries.size(); ++b)
      for (int64_t h = 0; h < heads_.n_heads; ++h) head(b, h);

    const bool separate = options.relative_keys && options.relative_keys->queries.defined();
    if (options.relative_keys) {
      if (separate)
        backward(options.relative_keys->queries, gradient(own_));
      else
        for (size_t i = 0; i < q_.d.size(); ++i) q_.d[i] += own_.d[i];
      backward(options.relative_keys->rows, gradient(rows_));
    }
    backward(q_prepared, gradient(q_));
    backward(k_prepared, gradient(k_));
    return {{"out", tensor(out_, out_.x)},
            {"dq", leaves[0].grad()},
            {"dk", leaves[1].grad()},
            {"dv", gradient(v_)}};
  }

 private:
  struct Matrix {
    int64_t rows = 0, columns = 0;
    std::vector<float> x = std::vector<float>(static_cast<size_t>(rows * columns)),
                       d = x;  // and its gradient
    float& at(int64_t r, int64_t c) { return x[static_cast<size_t>(r * columns + c)]; }
    float& grad(int64_t r, int64_t c) { return d[static_cast<size_t>(r * columns + c)]; }
  };
  static Matrix matrix(const Var& x) {
    Matrix m{x.size(0), x.size(1)};
    const std::vector<double> values = x.value().values();
    std::transform(values.begin(), values.end(), m.x.begin(), [](double y) { return static_cast<float>(y); });
    return m;
  }
  static Tensor tensor(const Matrix& m, const std::vector<float>& x) {
    return Tensor::from({m.rows, m.columns}, std::vector<double>(x.begin(), x.end()), dtype_of<T>::value);
  }
  static Tensor gradient(const Matrix& m) { return tensor(m, m.d); }
  static float rounded(float x) { return static_cast<float>(T(x)); }

  void head(int64_t b, int64_t h) {
    const int64_t n = d_.given.queries.length(b), m = d_.given.keys.length(b),
                  past = d_.given.queries.past(b);
    const int64_t width = pairing_.width, d_v = heads_.d_v, g = h / heads_.group();
    const int64_t q0 = d_.given.queries.begin(b), k0 = d_.given.keys.begin(b);
    const float scale = static_cast<float>(pairing_.scale);
    const float* tanh_v = pairing_.v ? pairing_.v->value().template data<float>() + h * width : nullptr;
    const int64_t head_column =
        rows_.columns == width ? 0 : h * width;  // relative rows for all heads alike, or not
    const auto relative_row = [&](int64_t i, int64_t j) {
      return std::clamp<int64_t>(options_.relative_keys->zero + j - (past + i), 0, rows_.rows - 1);
    };
    const auto value = [&](int64_t i, int64_t j, int64_t c) {
      const float v = v_.at(k0 + j, g * d_v + c);
      if (!options_.relative_values) return v;
      const int64_t row =
          std::clamp<int64_t>(options_.relative_values->zero + j - (past + i), 0, value_rows_.rows - 1);
      return v + value_rows_.at(row, (value_rows_.columns == d_v ? 0 : h * d_v) + c);
    };
    std::vector<float> w(static_cast<size_t>(n * m)), ds(w);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < m; ++j) {
        float sum = 0;
        for (int64_t c = 0; c < width; ++c) {
          const float x = q_.at(q0 + i, h * width + c), y = k_.at(k0 + j, g * width + c);
          if (pairing_.kind == Pairing::Kind::kDot) sum += x * y;
          if (pairing_.kind == Pairing::Kind::kTanhSum) sum += tanh_v[c] * std::tanh(x + y);
        }
        for (int64_t c = 0; c < width && options_.relative_keys; ++c)
          sum += own_.at(q0 + i, h * width + c) * rows_.at(relative_row(i, j), head_column + c);
        w[i * m + j] = scale * sum;
      }
    std::vector<const Edit*> edits;
    std::vector<std::vector<float>> edited;
    for (const RulePtr& rule : options_.rules)
      if (const auto* edit = dynamic_cast<const Edit*>(rule.get())) {
        each_tile(b, h, n, m, w, [&](const ScoreTile<float>& tile, int64_t) { edit->apply(tile); });
        edits.push_back(edit), edited.push_back(w);
      }
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < m; ++j)
        if (!sees(d_, b, h, i, j)) w[i * m + j] = -std::numeric_limits<float>::infinity();
    const Normalizer& normalizer = normalizer_of(options_);
    float unused = 0;
    for (int64_t i = 0; i < n; ++i) {
      (void)normalizer.weights(h, m, w.data() + i * m);
      for (int64_t c = 0; c < d_v; ++c)
        for (int64_t j = 0; j < m; ++j) {
          const float p = rounded(w[i * m + j]), dout = dout_.at(q0 + i, h * d_v + c);
          out_.at(q0 + i, h * d_v + c) += p * value(i, j, c);
          ds[i * m + j] += dout * value(i, j, c);
          v_.grad(k0 + j, g * d_v + c) += p * dout;
        }
      normalizer.backward(h, m, w.data() + i * m, ds.data() + i * m, &unused);
    }
    for (size_t e = edits.size(); e-- > 0;)
      if (!edits[e]->passes_gradients()) {
        edits[e]->begin_backward();
        std::vector<float> numbers(edits[e]->parameter() ? edits[e]->parameter()->value().size(1) : 1);
        each_tile(b, h, n, m, edited[e], [&](const ScoreTile<float>& tile, int64_t at) {
          edits[e]->backward(tile, ds.data() + at, numbers.data());
        });
        edits[e]->end_backward();
      }
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < m; ++j) {
        const float s = rounded(ds[i * m + j]);
        for (int64_t c = 0; c < width; ++c) {
          const float x = q_.at(q0 + i, h * width + c), y = k_.at(k0 + j, g * width + c);
          float dx = scale * s * y, dy = scale * s * x;
          if (pairing_.kind == Pairing::Kind::kUniform) dx = dy = 0;
          if (pairing_.kind == Pairing::Kind::kTanhSum) {
            const float t = std::tanh(x + y);
            dx = dy = s * tanh_v[c] * (1 - t * t);
          }
          q_.grad(q0 + i, h * width + c) += dx;
          k_.grad(k0 + j, g * width + c) += dy;
          if (!options_.relative_keys) continue;
          const int64_t r = relative_row(i, j);
          rows_.grad(r, head_column + c) += scale * s * own_.at(q0 + i, h * width + c);
          own_.grad(q0 + i, h * width + c) += scale * s * rows_.at(r, head_column + c);
        }
      }
  }

  // use(tile, offset of its first score) for tiles of x [n, m].
  template <class Use>
  void each_tile(int64_t b, int64_t h, int64_t n, int64_t m, std::vector<float>& x, Use&& use) {
    for (int64_t i = 0; i < n; i += 64)
      for (int64_t j = 0; j < m; j += 64) {
        ScoreTile<float> tile{{.batch = b,
                               .head = h,
                               .i0 = d_.given.queries.past(b) + i,
                               .j0 = j,
                               .rows = std::min<int64_t>(64, n - i),
                               .cols = std::min<int64_t>(64, m - j)},
                              m,
                              x.data() + i * m + j,
                              &kernels::table_for(Isa::kRef).f32.attention};
        use(tile, i * m + j);
      }
  }

  const Drawn& d_;
  const HeadSizes heads_ = d_.options.heads;
  AttentionOptions options_;
  Pairing pairing_;
  Matrix q_, k_, v_, dout_, out_, rows_, own_, value_rows_;
};

// The same numbers in float64.
Drawn in_f64(const Drawn& d) {
  Case c = d.c;
  c.dtype = DType::kF64;
  Drawn exact = make(c);
  for (size_t i = 0; i < d.set->all().size(); ++i)
    exact.set->all()[i]->set_value(d.set->all()[i]->value().to(DType::kF64));
  for (size_t i = 0; i < d.biases.size(); ++i) exact.biases[i].values.copy_from(d.biases[i].values);
  for (Tensor Given::*x : {&Given::dout, &Given::relative_queries})
    exact.given.*x = (d.given.*x).to(DType::kF64);
  for (Tensor Inputs::*x : {&Inputs::q, &Inputs::k, &Inputs::v})
    exact.given.*x = (d.given.*x).to(DType::kF64);
  exact.relative_rows = d.relative_rows.to(DType::kF64);
  exact.relative_value_rows = d.relative_value_rows.to(DType::kF64);
  return exact;
}

// Max norm, relative to the scale of what is exact; gradients: the largest of the three ratios is what
// counts.
constexpr const char* kTensors[] = {"out", "dq", "dk", "dv"};
struct Errors {
  double of[4] = {};
  void add(const Results& got, const Results& exact) {
    for (size_t t = 0; t < 4; ++t) {
      const Tensor& want = result(exact, kTensors[t]);
      const double scale = max_difference(want, Tensor::zeros(want.shape(), DType::kF64));
      if (scale > 0) of[t] = std::max(of[t], max_difference(result(got, kTensors[t]), want) / scale);
    }
  }
};

// Backward takes sum_j w_j dW_j from the result, dO . o, in sums of another order than those of dW. Where a
// query sees one key or two the difference cancels to nothing: there a plain evaluation, which sums the w_j
// dW_j themselves, is off by less or by nothing, and this by the rounding of what cancels.
constexpr double kDelta = 0x1p-23;

class Error : public testing::TestWithParam<Variant> {};
TEST_P(Error, IsAtMostTwiceThatOfAPlainEvaluationAndThreeTimesInGradients) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    Errors plain;
    std::vector<Errors> blocked(tables().size());
    for (uint64_t seed : {1, 2, 3}) {
      Case c{.seed = seed, .dtype = dtype, .heads = {.n_heads = 2, .n_kv_heads = 1, .d_k = 16, .d_v = 12}};
      c.lengths = {{.q = 67, .kv = 67}, {.q = 20, .kv = 20}};
      GetParam().set(c);
      Drawn d = make(c);
      const Results exact = run(in_f64(d), AttentionPath::kReference);
      plain.add(dtype == DType::kF32 ? Plain<float>(d).run() : Plain<bfloat16>(d).run(), exact);
      for (size_t family = 0; family < tables().size(); ++family) {
        d.options.kernels = tables()[family];
        blocked[family].add(run(d, AttentionPath::kBlocked), exact);
      }
    }
    double out = 0, gradients = 0;
    for (size_t family = 0; family < tables().size(); ++family)
      for (size_t t = 0; t < 4; ++t) {
        const double got = blocked[family].of[t], bound = t == 0 ? 2 * plain.of[t] : 3 * plain.of[t] + kDelta;
        EXPECT_LE(got, bound) << kTensors[t] << " in " << name(dtype) << " on "
                              << name(tables()[family]->isa);
        const double ratio = plain.of[t] > 0 ? got / plain.of[t] : 0;
        (t == 0 ? out : gradients) = std::max(t == 0 ? out : gradients, ratio);
      }
    if (std::getenv("QKV_TABLE"))
      fmt::print("| {} | {} | {:.1e} | {:.2f} | {:.2f} |\n", GetParam().name, name(dtype), plain.of[0], out,
                 gradients);
  }
}
INSTANTIATE_TEST_SUITE_P(Any, Error, testing::ValuesIn(variants()),
                         [](const auto& x) { return x.param.test_name(); });

}  // namespace
}  // namespace qkv
