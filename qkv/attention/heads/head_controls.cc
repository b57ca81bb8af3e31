#include "qkv/attention/heads/head_controls.h"

#include <cmath>
#include <numbers>

#include "qkv/base/parallel.h"
#include "qkv/base/philox.h"
#include "qkv/base/trace.h"
#include "qkv/kernels/table.h"

namespace qkv {
namespace {

// FNV-1a: the stream of a site must not depend on the library's std::hash.
uint32_t stream_of(std::string_view site) {
  uint32_t hash = 2166136261u;
  for (char c : site) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return hash;
}

// One op on the tape: what forward and backward share.
struct Control {
  Var x;
  Tensor in;
  Segments tokens;
  int64_t n_heads = 0, d = 0;
  ParameterPtr scale, gates;
  std::vector<double> noise;
  uint64_t seed = 0;
  uint32_t stream = 0, layer = 0;

  template <class A>
  A gamma(int64_t h) const {
    return scale ? scale->value().data<A>()[h] : A(1);
  }
  int64_t gate_row(int64_t sequence) const { return gates && gates->value().size(0) > 1 ? sequence : 0; }
  template <class A>
  A gate(int64_t sequence, int64_t h) const {
    return gates ? gates->value().data<A>()[gate_row(sequence) * n_heads + h] : A(1);
  }
  double noise_of(int64_t h) const { return noise.empty() ? 0 : noise[static_cast<size_t>(h)]; }

  // z [d]: Box-Muller, two of each block's four words for a pair.
  template <class A>
  void normals(int64_t sequence, int64_t position, int64_t h, A* z) const {
    const RandomKey key{.seed = seed + 0x9E3779B97F4A7C15u * static_cast<uint64_t>(sequence),
                        .stream = stream,
                        .step = layer};
    for (int64_t c = 0; c < d; c += 4) {
      const auto words = random_block(key, static_cast<uint64_t>(position) << 28 |
                                               static_cast<uint64_t>(h) << 14 | static_cast<uint64_t>(c / 4));
      for (int64_t pair = 0; pair < 4; pair += 2) {
        const double radius = std::sqrt(-2 * std::log((words[static_cast<size_t>(pair)] + 0.5) * 0x1p-32)),
                     angle = 2 * std::numbers::pi * words[static_cast<size_t>(pair) + 1] * 0x1p-32;
        if (c + pair < d) z[c + pair] = static_cast<A>(radius * std::cos(angle));
        if (c + pair + 1 < d) z[c + pair + 1] = static_cast<A>(radius * std::sin(angle));
      }
    }
  }

  // noisy [d] = x + noise rms z, of one token and head. Returns the RMS.
  template <class T, class A>
  A disturb(const T* from, int64_t sequence, int64_t position, int64_t h, A* z, A* noisy) const {
    for (int64_t c = 0; c < d; ++c) noisy[c] = A(from[c]);
    if (noise_of(h) == 0) return 0;
    A squares = 0;
    for (int64_t c = 0; c < d; ++c) squares += noisy[c] * noisy[c];
    const A rms = std::sqrt(squares / static_cast<A>(d));
    normals(sequence, position, h, z);
    for (int64_t c = 0; c < d; ++c) noisy[c] += static_cast<A>(noise_of(h)) * rms * z[c];
    return rms;
  }

  template <class T>
  Tensor forward() const {
    using A = accumulator_t<T>;
    const Tensor out = Tensor::empty(in.shape(), in.dtype());
    for (int64_t b = 0; b < tokens.size(); ++b)
      parallel_for(tokens.length(b), 16, [&](int64_t begin, int64_t end) {
        std::vector<A> z(static_cast<size_t>(d)), noisy(z);
        for (int64_t r = begin; r < end; ++r)
          for (int64_t h = 0; h < n_heads; ++h) {
            const int64_t at = ((tokens.begin(b) + r) * n_heads + h) * d;
            const A factor = gamma<A>(h) * gate<A>(b, h);
            (void)disturb(in.data<T>() + at, b, tokens.past(b) + r, h, z.data(), noisy.data());
            // A head that is off is off, whatever it says: 0 * NaN would be NaN.
            for (int64_t c = 0; c < d; ++c)
              out.data<T>()[at + c] = T(factor == 0 ? A(0) : factor * noisy[static_cast<size_t>(c)]);
          }
      });
    return out;
  }

  template <class T>
  void backward(const Tensor& dy) const {
    using A = accumulator_t<T>;
    const Tensor dx = Tensor::empty(in.shape(), in.dtype());
    // One thread a head: dL/d(gamma gate) of each sequence is one sum, over its tokens in order.
    std::vector<A> sums(static_cast<size_t>(tokens.size() * n_heads));
    parallel_items(n_heads, [&](int64_t h) {
      std::vector<A> z(static_cast<size_t>(d)), noisy(z);
      for (int64_t b = 0; b < tokens.size(); ++b) {
        const A factor = gamma<A>(h) * gate<A>(b, h);
        A sum = 0;
        for (int64_t r = 0; r < tokens.length(b); ++r) {
          const int64_t at = ((tokens.begin(b) + r) * n_heads + h) * d;
          const T *g = dy.data<T>() + at, *from = in.data<T>() + at;
          const A rms = disturb(from, b, tokens.past(b) + r, h, z.data(), noisy.data());
          A along = 0, through_rms = 0;
          for (int64_t c = 0; c < d; ++c) along += A(g[c]) * noisy[static_cast<size_t>(c)];
          sum += along;
          if (rms > 0)  // d rms / d x_c = x_c / (d rms)
            for (int64_t c = 0; c < d; ++c) through_rms += A(g[c]) * z[static_cast<size_t>(c)];
          const A share =
              rms > 0 ? static_cast<A>(noise_of(h)) * through_rms / (static_cast<A>(d) * rms) : A(0);
          for (int64_t c = 0; c < d; ++c)
            dx.data<T>()[at + c] = T(factor == 0 ? A(0) : factor * (A(g[c]) + share * A(from[c])));
        }
        sums[static_cast<size_t>(b * n_heads + h)] = sum;
      }
    });
    x.add_grad(dx);
    for (int64_t b = 0; b < tokens.size(); ++b)
      for (int64_t h = 0; h < n_heads; ++h) {
        const A sum = sums[static_cast<size_t>(b * n_heads + h)];
        if (scale && scale->trainable()) scale->grad().data<A>()[h] += gate<A>(b, h) * sum;
        if (gates && gates->trainable())
          gates->grad().data<A>()[gate_row(b) * n_heads + h] += gamma<A>(h) * sum;
      }
  }
};

}  // namespace

const HeadControls::Layer* HeadControls::find(std::string_view site, int64_t layer) const {
  for (const Layer& one : layers)
    if (one.site == site && one.layer == layer) return &one;
  return nullptr;
}

ParameterPtr head_gates(const std::string& name, int64_t n_heads, DType dtype, int64_t n_sequences) {
  return std::make_shared<Parameter>(name,
                                     Tensor::full({n_sequences > 0 ? n_sequences : 1, n_heads}, dtype, 1));
}

std::vector<double> head_importance(const ParameterPtr& gates) {
  const int64_t n_heads = gates->value().size(1);
  std::vector<double> sums(static_cast<size_t>(n_heads));
  for (int64_t b = 0; b < gates->value().size(0); ++b)
    for (int64_t h = 0; h < n_heads; ++h) sums[static_cast<size_t>(h)] += std::abs(gates->grad().at({b, h}));
  return sums;
}

Var control_heads(const Var& x, const Segments& tokens, int64_t n_heads, const ParameterPtr& head_scale,
                  const HeadControls* controls, std::string_view site, int64_t layer) {
  const HeadControls::Layer* mine = controls ? controls->find(site, layer) : nullptr;
  if (!head_scale && !mine) return x;
  const trace::Span span("control_heads", trace::Kind::kOp);
  const Tensor in = x.value().contiguous();
  const int64_t d = n_heads > 0 ? in.size(1) / n_heads : 0;
  QKV_CHECK(in.rank() == 2 && in.size(0) == tokens.n_tokens() && in.size(1) == n_heads * d &&
                n_heads < (1 << 14) && d < (1 << 16),
            kShape, "head controls: x is {}, needs to be [{} tokens, {} heads x width]", in.shape().str(),
            tokens.n_tokens(), n_heads);
  const auto check_dtype = [&](const ParameterPtr& p) {
    QKV_CHECK(p->value().dtype() == accumulator_dtype(in.dtype()), kDtype,
              "head controls: {} is {}, needs to be {} beside {} activations", p->name(),
              name(p->value().dtype()), name(accumulator_dtype(in.dtype())), name(in.dtype()));
  };
  auto op = std::make_shared<Control>(Control{.x = x,
                                              .in = in,
                                              .tokens = tokens,
                                              .n_heads = n_heads,
                                              .d = d,
                                              .scale = head_scale,
                                              .gates = mine ? mine->gates : nullptr,
                                              .noise = mine ? mine->noise : std::vector<double>{},
                                              .seed = controls ? controls->seed : 0,
                                              .stream = stream_of(site),
                                              .layer = static_cast<uint32_t>(layer)});
  if (op->scale) {
    QKV_CHECK(op->scale->value().numel() == n_heads, kShape, "head controls: {} is {}, needs to be [{}]",
              op->scale->name(), op->scale->value().shape().str(), n_heads);
    check_dtype(op->scale);
  }
  if (op->gates) {
    const Shape& shape = op->gates->value().shape();
    QKV_CHECK(shape.rank() == 2 && shape[1] == n_heads && (shape[0] == 1 || shape[0] == tokens.size()),
              kShape, "head controls: gates of {} {} are {}, need to be [1, {}] or [{} sequences, {}]", site,
              layer, shape.str(), n_heads, tokens.size(), n_heads);
    check_dtype(op->gates);
  }
  QKV_CHECK(op->noise.empty() || static_cast<int64_t>(op->noise.size()) == n_heads, kShape,
            "head controls: {} noises for the {} heads of {} {}", op->noise.size(), n_heads, site, layer);
  const auto trains = [](const ParameterPtr& p) { return p && p->trainable(); };
  const Tensor out = kernels::visit_dtype(in.dtype(), [&]<class T>(T) { return op->template forward<T>(); });
  return Var::result(
      out, x.requires_grad() || trains(op->scale) || trains(op->gates), {x}, [op](const Tensor& dy) {
        kernels::visit_dtype(dy.dtype(), [&]<class T>(T) { op->template backward<T>(dy.contiguous()); });
      });
}

}  // namespace qkv
