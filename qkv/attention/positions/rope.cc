#include "qkv/attention/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "qkv/base/error.h"
#include "qkv/base/parallel.h"
#include "qkv/base/trace.h"
#include "qkv/kernels/table.h"

namespace qkv {
namespace {

using Kind = RopeScaling::Kind;
constexpr double kTurn = 2 * std::numbers::pi;

std::vector<double> unscaled(double base, int64_t dims) {
  std::vector<double> f;
  for (int64_t p = 0; p < dims / 2; ++p)
    f.push_back(std::pow(base, -2.0 * static_cast<double>(p) / static_cast<double>(dims)));
  return f;
}

// Peng et al. 2023, section 3.2: pairs that turn often stay, those that turn seldom are interpolated; the
// ramp is in the number of the pair, as in the authors' code.
void yarn(std::vector<double>& f, const RopeOptions& o, int64_t dims) {
  const RopeScaling& s = o.scaling;
  const auto pair_of = [&](double turns) {
    return static_cast<double>(dims) * std::log(static_cast<double>(s.original_max_len) / (turns * kTurn)) /
           (2 * std::log(o.base));
  };
  const double low = std::max(std::floor(pair_of(s.beta_fast)), 0.0);
  double high = std::min(std::ceil(pair_of(s.beta_slow)), static_cast<double>(dims - 1));
  if (high == low) high += 0.001;
  for (size_t p = 0; p < f.size(); ++p) {
    const double ramp = std::clamp((static_cast<double>(p) - low) / (high - low), 0.0, 1.0);
    f[p] = f[p] / s.factor * ramp + f[p] * (1 - ramp);
  }
}

void llama3(std::vector<double>& f, const RopeScaling& s) {
  const double length = static_cast<double>(s.original_max_len);
  for (double& x : f) {
    const double turns = length * x / kTurn;  // in the original length
    const double keep =
        std::clamp((turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor), 0.0, 1.0);
    x = (1 - keep) * x / s.factor + keep * x;
  }
}

void check(int64_t d_k, int64_t dims, const RopeOptions& o) {
  const RopeScaling& s = o.scaling;
  QKV_CHECK(dims >= 2 && dims <= d_k && dims % 2 == 0, kValue,
            "rope: rotary_dims is {}, needs an even number up to d_k ({})", dims, d_k);
  QKV_CHECK(o.base > 1 && std::isfinite(o.base), kValue, "rope: base is {}, needs to be above 1", o.base);
  QKV_CHECK(s.kind == Kind::kNone || (s.factor > 0 && std::isfinite(s.factor)), kValue,
            "rope: scaling factor is {}, needs to be positive", s.factor);
  if (s.kind == Kind::kYarn || s.kind == Kind::kLlama3)
    QKV_CHECK(s.original_max_len > 0, kValue,
              "rope: this scaling needs original_max_len, the length trained on");
  if (s.kind == Kind::kYarn) {
    const auto positive = [](double x) { return x > 0 && std::isfinite(x); };
    QKV_CHECK(
        positive(s.beta_fast) && positive(s.beta_slow), kValue,
        "rope: beta_fast ({}) and beta_slow ({}) are numbers of turns, need to be positive; 32 and 1 are "
        "usual",
        s.beta_fast, s.beta_slow);
    QKV_CHECK(s.attention_factor == 0 || positive(s.attention_factor), kValue,
              "rope: attention_factor is {}, needs to be positive, or 0 for 0.1 ln(factor) + 1",
              s.attention_factor);
  }
  if (s.kind == Kind::kNtk)
    QKV_CHECK(dims > 2, kValue, "rope: NTK-aware scaling needs more than 2 rotary dims");
  if (s.kind == Kind::kLlama3)
    QKV_CHECK(s.high_freq_factor > s.low_freq_factor, kValue,
              "rope: high_freq_factor ({}) needs to be above low_freq_factor ({})", s.high_freq_factor,
              s.low_freq_factor);
}

}  // namespace

Rope::Rope(int64_t d_k, const RopeOptions& o)
    : d_k_(d_k), rotary_dims_(o.rotary_dims ? o.rotary_dims : d_k), interleaved_(o.interleaved) {
  check(d_k_, rotary_dims_, o);
  const RopeScaling& s = o.scaling;
  const double dims = static_cast<double>(rotary_dims_);
  frequencies_ =
      unscaled(s.kind == Kind::kNtk ? o.base * std::pow(s.factor, dims / (dims - 2)) : o.base, rotary_dims_);
  if (s.kind == Kind::kLinear)
    for (double& f : frequencies_) f /= s.factor;
  if (s.kind == Kind::kYarn) {
    yarn(frequencies_, o, rotary_dims_);
    attention_factor_ = s.attention_factor > 0 ? s.attention_factor
                        : s.factor > 1         ? 0.1 * std::log(s.factor) + 1
                                               : 1;
  }
  if (s.kind == Kind::kLlama3) llama3(frequencies_, s);
}

Tensor Rope::turned(const Tensor& x, const Segments& positions, int64_t n_heads, bool back) const {
  const Tensor y = Tensor::empty(x.shape(), x.dtype());
  const int64_t pairs = rotary_dims_ / 2, width = n_heads * d_k_,
                stride = x.size(0) > 1 ? x.stride(0) : width;
  const int64_t step = interleaved_ ? 2 : 1, other = interleaved_ ? 1 : pairs;
  std::vector<int64_t> position(static_cast<size_t>(x.size(0)));
  for (int64_t b = 0; b < positions.size(); ++b)
    for (int64_t r = 0; r < positions.length(b); ++r)
      position[static_cast<size_t>(positions.begin(b) + r)] = positions.past(b) + r;
  kernels::visit_dtype(x.dtype(), [&]<class T>(T) {
    using A = accumulator_t<T>;
    const T* const from = x.data<T>();
    T* const to = y.data<T>();
    parallel_for(x.size(0), 16, [&](int64_t begin, int64_t end) {
      std::vector<A> cosines(static_cast<size_t>(pairs)), sines(cosines);
      for (int64_t row = begin; row < end; ++row) {
        for (size_t p = 0; p < cosines.size(); ++p) {
          const double angle = static_cast<double>(position[static_cast<size_t>(row)]) * frequencies_[p];
          cosines[p] = static_cast<A>(attention_factor_ * std::cos(angle));
          sines[p] = static_cast<A>(attention_factor_ * std::sin(back ? -angle : angle));
        }
        for (int64_t h = 0; h < n_heads; ++h) {
          const T* in = from + row * stride + h * d_k_;
          T* out = to + row * width + h * d_k_;
          for (int64_t p = 0; p < pairs; ++p) {
            const A a = A(in[p * step]), b = A(in[p * step + other]);
            const A c = cosines[static_cast<size_t>(p)], s = sines[static_cast<size_t>(p)];
            out[p * step] = T(a * c - b * s);
            out[p * step + other] = T(a * s + b * c);
          }
          std::copy(in + rotary_dims_, in + d_k_, out + rotary_dims_);
        }
      }
    });
  });
  return y;
}

Var Rope::operator()(const Var& x, const Segments& positions, int64_t n_heads) const {
  const trace::Span span("rope", trace::Kind::kOp);
  QKV_CHECK(x.value().rank() == 2 && x.size(0) == positions.n_tokens() && x.size(1) == n_heads * d_k_, kShape,
            "rope: x is {}, needs to be [{} tokens, {} heads x {}]", x.value().shape().str(),
            positions.n_tokens(), n_heads, d_k_);
  const Tensor in = x.size(1) <= 1 || x.value().stride(1) == 1 ? x.value() : x.value().contiguous();
  return Var::result(
      turned(in, positions, n_heads, false), x.requires_grad(), {x},
      [=, *this](const Tensor& dy) { x.add_grad(turned(dy.contiguous(), positions, n_heads, true)); });
}

}  // namespace qkv
