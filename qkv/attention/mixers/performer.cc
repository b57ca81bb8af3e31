// FAVOR+: Choromanski et al. 2021, arXiv:2009.14794.

#include <algorithm>
#include <cmath>

#include "qkv/attention/mixers.h"
#include "qkv/base/checked.h"
#include "qkv/base/parallel.h"
#include "qkv/base/trace.h"
#include "qkv/tensor/matmul.h"

namespace qkv {
namespace {

constexpr uint32_t kStream = 0x70657266;  // "perf": features are drawn from a stream of their own

// Rows of normal vectors that are orthogonal in groups of d (section 2.4): directions by Gram-Schmidt,
// lengths those of independent normal vectors. [m, d]
std::vector<double> orthogonal_features(int64_t m, int64_t d, RandomKey key) {
  key.stream ^= kStream;
  RandomStream random(key);
  std::vector<double> w(static_cast<size_t>(m * d));
  const auto dot = [d](const double* a, const double* b) {
    double sum = 0;
    for (int64_t i = 0; i < d; ++i) sum += a[i] * b[i];
    return sum;
  };
  for (int64_t r = 0; r < m; ++r) {
    double* row = w.data() + r * d;
    double left = 0;
    do {  // again where next to nothing is left of it, which chance all but excludes
      for (int64_t i = 0; i < d; ++i) row[i] = random.normal();
      for (int pass = 0; pass < 2; ++pass)  // the second removes what the first's roundings left
        for (int64_t other = r / d * d; other < r; ++other) {
          const double* o = w.data() + other * d;
          const double share = dot(row, o) / dot(o, o);
          for (int64_t i = 0; i < d; ++i) row[i] -= share * o[i];
        }
      left = dot(row, row);
    } while (left < 1e-12);
    double length = 0;
    for (int64_t i = 0; i < d; ++i) {
      const double x = random.normal();
      length += x * x;
    }
    for (int64_t i = 0; i < d; ++i) row[i] *= std::sqrt(length / left);
  }
  return w;
}

class Performer final : public Mixer {
 public:
  Performer(const HeadSizes& heads, int64_t n_features, const RandomKey& key)
      : d_(heads.d_k),
        m_(n_features),
        w_(Tensor::from({m_, d_}, orthogonal_features(m_, d_, key), DType::kF64)),
        w32_(w_.to(DType::kF32)) {}

  std::string_view name() const override { return "performer"; }
  bool normalised() const override { return true; }
  int64_t width(const HeadSizes&) const override { return m_; }

  MixerParts prepare(const Var& q, const Var& k, const Segments& keys, const MixerOptions& options,
                     MixerState* state) const override {
    QKV_CHECK(options.heads.d_k == d_, kShape, "performer: made for a d_k of {}, got {}", d_,
              options.heads.d_k);
    MixerParts parts;
    parts.q = features(q, options, [](const Tensor&) {});
    parts.k = features(k, options, [&](const Tensor& maxima) {
      const auto shift = [&]<class A>(A) { parts.decay = shift_keys<A>(maxima, keys, options, state); };
      maxima.dtype() == DType::kF64 ? shift(double{}) : shift(float{});
    });
    return parts;
  }

 private:
  const Tensor& features_of(DType exponents) const { return exponents == DType::kF64 ? w_ : w32_; }
  double scale() const { return std::pow(static_cast<double>(d_), -0.25); }

  // x' = x / d^(1/4), [n * heads, d], in the exponents' type.
  Tensor scaled(const Tensor& x, DType exponents) const {
    const Tensor y = x.to(exponents).clone().reshape({x.size(0) * (x.size(1) / d_), d_});
    const auto times = [&]<class A>(A) {
      const auto scale_by = kernels::table().of<A>().rows.scale;
      parallel_for(y.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
        scale_by(end - begin, static_cast<A>(scale()), y.data<A>() + begin, y.data<A>() + begin);
      });
    };
    exponents == DType::kF64 ? times(double{}) : times(float{});
    return y;
  }

  // phi(x) [n, heads * m], rows measured from shifts that are their maxima unless `reshift` makes them others
  // (in place, [n * heads]). The output of a normalised mixer does not depend on them, so they have no
  // gradient.
  template <class Reshift>
  Var features(const Var& x, const MixerOptions& options, Reshift&& reshift) const {
    const DType exponents = accumulator_dtype(x.dtype());
    const int64_t n = x.size(0) * (x.size(1) / d_);
    const trace::Span span("performer", trace::Kind::kOp);
    const Tensor u = scaled(x.value(), exponents);
    const Tensor e = Tensor::empty({n, m_}, exponents);
    matmul(u, pack_matrix(features_of(exponents).transpose(0, 1), exponents), e);
    const Tensor shifts = Tensor::empty({n}, exponents), halves = Tensor::empty({n}, exponents),
                 phi = Tensor::empty({x.size(0), x.size(1) / d_ * m_}, x.dtype());
    kernels::visit_dtype(x.dtype(), [&]<class T>(T) {
      using A = accumulator_t<T>;
      const kernels::Table& table = options.kernels ? *options.kernels : kernels::table();
      A *shift = shifts.data<A>(), *half = halves.data<A>();
      parallel_for(n, 64, [&](int64_t begin, int64_t end) {
        table.of<A>().attention.row_dots(end - begin, d_, u.data<A>() + begin * d_, d_,
                                         u.data<A>() + begin * d_, d_, half + begin);
        for (int64_t r = begin; r < end; ++r) shift[r] = greatest(e.data<A>() + r * m_) - (half[r] *= A(0.5));
      });
      reshift(shifts);
      parallel_for(n, 64, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) half[r] += shift[r];
        table.of<T>().mixers.exp_rows(end - begin, m_, e.data<A>() + begin * m_, m_, half + begin,
                                      phi.data<T>() + begin * m_, m_);
      });
    });
    return Var::result(phi, x.requires_grad(), {x}, [x, phi, self = *this](const Tensor& dphi) {
      x.add_grad(self.backward(x.value(), phi, dphi.contiguous()));
    });
  }

  // A NaN is passed over: its row's features are NaN all the same.
  template <class A>
  A greatest(const A* x) const {
    constexpr int64_t kLanes = 16;
    A best[kLanes];
    std::fill(best, best + kLanes, A(MixerState::kNoShift));
    int64_t c = 0;
    for (; c + kLanes <= m_; c += kLanes)
      for (int64_t l = 0; l < kLanes; ++l) best[l] = x[c + l] > best[l] ? x[c + l] : best[l];
    for (; c < m_; ++c) best[0] = x[c] > best[0] ? x[c] : best[0];
    return *std::max_element(best, best + kLanes);
  }

  // d phi_r = phi_r (w_r - x') . dx': dx = scale (dE W - x' sum_r dE_r), dE = dphi phi.
  Tensor backward(const Tensor& x, const Tensor& phi, const Tensor& dphi) const {
    const DType exponents = accumulator_dtype(x.dtype());
    const int64_t n = x.size(0) * (x.size(1) / d_);
    const Tensor de = Tensor::empty({n, m_}, exponents), du = Tensor::empty({n, d_}, exponents),
                 u = scaled(x, exponents), dx = Tensor::empty(x.shape(), x.dtype());
    kernels::visit_dtype(x.dtype(), [&]<class T>(T) {
      using A = accumulator_t<T>;
      const auto& rows = kernels::table().of<T>().rows;
      const auto& exact = kernels::table().of<A>().rows;
      parallel_for(n, 64, [&](int64_t begin, int64_t end) {
        std::vector<A> one(static_cast<size_t>(m_));
        for (int64_t r = begin; r < end; ++r) {
          A* to = de.data<A>() + r * m_;
          rows.to_acc(m_, phi.data<T>() + r * m_, to);
          rows.to_acc(m_, dphi.data<T>() + r * m_, one.data());
          exact.multiply(m_, to, one.data(), to);
        }
      });
      matmul(de, pack_matrix(features_of(exponents), exponents), du);
      parallel_for(n, 64, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          A sum = 0;
          kernels::table().of<T>().attention.row_dots(1, m_, phi.data<T>() + r * m_, m_,
                                                      dphi.data<T>() + r * m_, m_, &sum);
          for (int64_t i = r * d_; i < (r + 1) * d_; ++i)
            dx.data<T>()[i] = T(static_cast<A>(scale()) * (du.data<A>()[i] - sum * u.data<A>()[i]));
        }
      });
    });
    return dx;
  }

  // Turns the maxima of keys into what they are measured from, and returns the decays that this makes
  // (causal), or none. Goes on from, and updates, the state's shifts.
  template <class A>
  Tensor shift_keys(const Tensor& maxima, const Segments& keys, const MixerOptions& options,
                    MixerState* state) const {
    const int64_t heads = options.heads.kv_heads();
    A* const shift = maxima.data<A>();
    const Tensor decay = options.causal ? Tensor::empty({keys.n_tokens(), heads}, maxima.dtype()) : Tensor();
    for (int64_t b = 0; b < keys.size(); ++b)
      for (int64_t h = 0; h < heads; ++h) {
        const A before = state ? state->shifts(b).data<A>()[h] : static_cast<A>(MixerState::kNoShift);
        A most = before;
        for (int64_t r = keys.begin(b); r < keys.begin(b) + keys.length(b); ++r) {
          const A last = most;
          if (A& own = shift[r * heads + h]; own > most) most = own;
          if (!options.causal) continue;
          shift[r * heads + h] = most;
          decay.data<A>()[r * heads + h] = std::exp(last - most);
        }
        if (!options.causal)
          for (int64_t r = keys.begin(b); r < keys.begin(b) + keys.length(b); ++r)
            shift[r * heads + h] = most;
        if (!state) continue;
        state->shifts(b).data<A>()[h] = most;
        const int64_t size = state->sums(b).size(1);
        if (!options.causal)
          for (int64_t i = h * size; i < (h + 1) * size; ++i)
            state->sums(b).data<A>()[i] *= std::exp(before - most);
      }
    return decay;
  }

  int64_t d_, m_;
  Tensor w_, w32_;  // [m, d]
};

}  // namespace

MixerPtr performer(const HeadSizes& heads, int64_t n_features, const RandomKey& key) {
  constexpr int64_t kMostNumbers = 1 << 28;  // of all features: 2 GiB
  QKV_CHECK(heads.d_k > 0 && heads.d_k <= kMostNumbers && n_features >= 0, kValue,
            "performer: d_k is {}, n_features {}: needs a positive width, and features or 0 for d_k log d_k",
            heads.d_k, n_features);
  const double d = static_cast<double>(heads.d_k);
  const int64_t usual = round_up(std::max<int64_t>(1, std::lround(d * std::log(d))), 16),
                n = n_features ? n_features : usual;
  QKV_CHECK(n <= kMostNumbers / heads.d_k, kValue,
            "performer: {} features of width {} are too many numbers; {} of that width are possible", n,
            heads.d_k, kMostNumbers / heads.d_k);
  return std::make_shared<Performer>(heads, n, key);
}

}  // namespace qkv
