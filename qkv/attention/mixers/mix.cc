#include <numeric>

#include "qkv/attention/mixers.h"
#include "qkv/attention/mixers/recurrence.h"
#include "qkv/base/parallel.h"
#include "qkv/base/trace.h"
#include "qkv/tensor/matmul.h"
#include "qkv/tensor/rows.h"

namespace qkv {
namespace {

using recurrence::Problem;

// A chunk packs the state, which costs about what a step does, and its products want rows; not tuned.
constexpr int64_t kFewTokens = 8;

const Mixer& mixer_of(const MixerOptions& options) {
  return options.mixer ? *options.mixer : *linear_attention();
}

void check_matrix(const char* what, const Tensor& x, const Segments& tokens, int64_t heads, int64_t d,
                  DType dtype) {
  QKV_CHECK(x.defined() && x.rank() == 2, kShape, "mix: {} needs to be a matrix [n_tokens, heads * width]",
            what);
  QKV_CHECK(x.dtype() == dtype, kDtype, "mix: {} is {}, but q is {}", what, name(x.dtype()), name(dtype));
  QKV_CHECK(x.size(0) == tokens.n_tokens() && x.size(1) == heads * d, kShape,
            "mix: {} is {}, needs to be [{} tokens, {} heads x {}]", what, x.shape().str(), tokens.n_tokens(),
            heads, d);
}

void check(const Tensor& q, const Tensor& k, const Tensor& v, const Segments& queries, const Segments& keys,
           const MixerOptions& options) {
  const HeadSizes& h = options.heads;
  QKV_CHECK(h.n_heads > 0 && h.n_kv_heads >= 0 && h.d_k > 0 && h.d_v >= 0, kValue,
            "mix: n_heads ({}) and d_k ({}) must be positive, n_kv_heads ({}) and d_v ({}) not negative",
            h.n_heads, h.d_k, h.n_kv_heads, h.d_v);
  QKV_CHECK(h.n_heads % h.kv_heads() == 0, kValue, "mix: n_heads ({}) is not a multiple of n_kv_heads ({})",
            h.n_heads, h.kv_heads());
  QKV_CHECK(q.defined(), kShape, "mix: q is missing");
  check_matrix("q", q, queries, h.n_heads, h.d_k, q.dtype());
  check_matrix("k", k, keys, h.kv_heads(), h.d_k, q.dtype());
  check_matrix("v", v, keys, h.kv_heads(), h.value_width(), q.dtype());
  QKV_CHECK(queries.size() == keys.size(), kShape, "mix: {} query sequences, but {} key sequences",
            queries.size(), keys.size());
  const Mixer& mixer = mixer_of(options);
  QKV_CHECK(
      options.causal || !mixer.forgets(), kUnsupported,
      "mix: {} forgets what is far behind, which has no meaning unless it is causal; linear and performer "
      "can see both ways",
      mixer.name());
  QKV_CHECK(mixer.name() == "gla" || !options.log_decay.defined(), kValue,
            "mix: {} takes no log_decay; gated_linear_attention() does", mixer.name());
  for (int64_t b = 0; options.causal && b < keys.size(); ++b)
    QKV_CHECK(queries.length(b) == keys.length(b), kShape,
              "mix: sequence {} has {} queries and {} keys; causal, each token is both (causal = false lets "
              "queries meet other keys)",
              b, queries.length(b), keys.length(b));
}

// What the mixer makes of the call. A mixer may be anybody's, and kernels read rows as wide as it says.
MixerParts prepared(const Var& q, const Var& k, const Segments& queries, const Segments& keys,
                    const MixerOptions& options, MixerState* state) {
  const Mixer& mixer = mixer_of(options);
  const HeadSizes& h = options.heads;
  const int64_t width = mixer.width(h);
  MixerParts parts = mixer.prepare(q, k, keys, options, state);
  const auto check_prepared = [&](const char* what, const Var& x, int64_t n_tokens, int64_t heads) {
    QKV_CHECK(x.defined() && x.value().rank() == 2 && x.size(0) == n_tokens && x.size(1) == heads * width,
              kShape, "mix: {} made {} of {}, needs to make [{} tokens, {} heads x its width of {}]",
              mixer.name(), x.defined() ? x.value().shape().str() : "nothing", what, n_tokens, heads, width);
    QKV_CHECK(x.dtype() == q.dtype(), kDtype, "mix: {} made {} of {}, which is {}", mixer.name(),
              name(x.dtype()), what, name(q.dtype()));
  };
  check_prepared("q", parts.q, queries.n_tokens(), h.n_heads);
  check_prepared("k", parts.k, keys.n_tokens(), h.kv_heads());
  if (const Tensor& decay = parts.decay; decay.defined()) {
    QKV_CHECK(decay.rank() == 2 && (decay.size(0) == keys.n_tokens() || decay.size(0) == 1) &&
                  (decay.size(1) == h.kv_heads() || decay.size(1) == h.kv_heads() * width),
              kShape, "mix: {} made decays {}, needs to make [{} tokens or 1, {} heads or {} heads x {}]",
              mixer.name(), decay.shape().str(), keys.n_tokens(), h.kv_heads(), h.kv_heads(), width);
    QKV_CHECK(decay.dtype() == accumulator_dtype(q.dtype()), kDtype, "mix: {} made decays of {}, needs {}",
              mixer.name(), name(decay.dtype()), name(accumulator_dtype(q.dtype())));
  }
  if (const Var& g = parts.log_decay; g.defined())
    QKV_CHECK(parts.decay.defined() && g.value().shape() == parts.decay.shape(), kShape,
              "mix: {} made log decays {} of decays {}; they need one shape", mixer.name(),
              g.value().shape().str(),
              parts.decay.defined() ? parts.decay.shape().str() : "that are not there");
  return parts;
}

// One call: what its backward needs.
struct Call {
  MixerParts parts;
  Var v;
  Tensor q_rows, k_rows, v_rows;  // the values, with adjacent columns
  Segments queries, keys;
  MixerOptions options;
  Tensor out, factor;

  Call(MixerParts prepared, const Var& values, const Segments& q_tokens, const Segments& k_tokens,
       const MixerOptions& o)
      : parts(std::move(prepared)),
        v(values),
        q_rows(with_adjacent_columns(parts.q.value())),
        k_rows(with_adjacent_columns(parts.k.value())),
        v_rows(with_adjacent_columns(values.value())),
        queries(q_tokens),
        keys(k_tokens),
        options(o),
        out(Tensor::empty({q_rows.size(0), o.heads.n_heads * o.heads.value_width()}, q_rows.dtype())) {}

  template <class T>
  Problem<T> problem() const {
    using A = accumulator_t<T>;
    const kernels::Table& table = options.kernels ? *options.kernels : kernels::table();
    const Mixer& mixer = mixer_of(options);
    Problem<T> p{.kernels = &table.of<T>(),
                 .exact = &table.of<A>(),
                 .heads = options.heads,
                 .width = mixer.width(options.heads),
                 .causal = options.causal,
                 .normalised = mixer.normalised(),
                 .scale = static_cast<A>(mixer.scale(options.heads)),
                 .q = q_rows.data<T>(),
                 .k = k_rows.data<T>(),
                 .v = v_rows.data<T>(),
                 .q_stride = row_stride(q_rows),
                 .k_stride = row_stride(k_rows),
                 .v_stride = row_stride(v_rows),
                 .queries = &queries,
                 .keys = &keys,
                 .states = {}};
    if (const Tensor& decay = parts.decay; decay.defined()) {
      p.decay = decay.data<A>();
      p.decay_width = decay.size(1) / options.heads.kv_heads();
      p.decay_stride = decay.size(0) == keys.n_tokens() && keys.n_tokens() != 1 ? decay.size(1) : 0;
    }
    return p;
  }

  // run(b, kv_head) for all, over the threads where the work is worth waking them; it returns operations.
  template <class Run>
  void for_each_head(int64_t width, Run&& run) const {
    const int64_t heads = options.heads.kv_heads(), n = keys.size() * heads;
    const int64_t rows = queries.n_tokens() * options.heads.n_heads + keys.n_tokens() * heads;
    std::vector<int64_t> flops(static_cast<size_t>(n));
    parallel_items(
        n, [&](int64_t i) { flops[static_cast<size_t>(i)] = run(i / heads, i % heads); },
        rows * width * options.heads.value_width());
    count_flops(std::accumulate(flops.begin(), flops.end(), int64_t{0}));
  }

  template <class T>
  void backward(const Tensor& any_dout) const {
    const Problem<T> p = problem<T>();
    const Tensor dout = any_dout.contiguous();
    const auto like = [](const Var& x) { return Tensor::empty(x.value().shape(), x.dtype()); };
    const Tensor dq = like(parts.q), dk = like(parts.k), dv = like(v),
                 dg = parts.log_decay.requires_grad() ? like(parts.log_decay) : Tensor();
    const recurrence::Gradients<T> g{.out = out.data<T>(),
                                     .dout = dout.data<T>(),
                                     .factor = factor.data<accumulator_t<T>>(),
                                     .dq = dq.data<T>(),
                                     .dk = dk.data<T>(),
                                     .dv = dv.data<T>(),
                                     .d_log_decay = dg.defined() ? dg.data<T>() : nullptr};
    for_each_head(p.width, [&](int64_t b, int64_t h) { return recurrence::chunked_backward(p, b, h, g); });
    parts.q.add_grad(dq);
    parts.k.add_grad(dk);
    v.add_grad(dv);
    if (dg.defined()) parts.log_decay.add_grad(dg);
  }
};

}  // namespace

Var mix(const Var& q, const Var& k, const Var& v, const Segments& queries, const Segments& keys,
        const MixerOptions& options) {
  const trace::Span span("mix", trace::Kind::kOp);
  QKV_CHECK(q.defined() && k.defined() && v.defined(), kValue, "mix: q, k or v is missing");
  check(q.value(), k.value(), v.value(), queries, keys, options);
  const auto call =
      std::make_shared<Call>(prepared(q, k, queries, keys, options, nullptr), v, queries, keys, options);
  const MixerParts& parts = call->parts;
  const bool differentiable = parts.q.requires_grad() || parts.k.requires_grad() || v.requires_grad() ||
                              parts.log_decay.requires_grad();
  kernels::visit_dtype(q.dtype(), [&]<class T>(T) {
    using A = accumulator_t<T>;
    if (grad_enabled() && differentiable)
      call->factor = Tensor::empty({options.heads.n_heads, queries.n_tokens()}, dtype_of<A>::value);
    const Problem<T> p = call->problem<T>();
    const recurrence::Result<T> result{
        .out = call->out.template data<T>(),
        .factor = call->factor.defined() ? call->factor.template data<A>() : nullptr};
    call->for_each_head(p.width,
                        [&](int64_t b, int64_t h) { return recurrence::chunked_forward(p, b, h, result); });
  });
  std::vector<Var> inputs{parts.q, parts.k, v};
  if (parts.log_decay.defined()) inputs.push_back(parts.log_decay);
  return Var::result(call->out, differentiable, std::move(inputs), [call](const Tensor& dout) {
    kernels::visit_dtype(dout.dtype(), [&]<class T>(T) { call->backward<T>(dout); });
  });
}

Tensor mix_cached(const Tensor& q, const Tensor& k, const Tensor& v, const Segments& queries,
                  const Segments& keys, MixerState& state, const MixerOptions& options) {
  const trace::Span span("mix", trace::Kind::kOp);
  check(q, k, v, queries, keys, options);
  const Mixer& mixer = mixer_of(options);
  const int64_t size = mixer.width(options.heads) * (options.heads.value_width() + 1);
  QKV_CHECK(state.size() == keys.size() && state.dtype() == q.dtype(), kShape,
            "mix: a state of {} sequences in {}, for {} sequences in {}", state.size(), name(state.dtype()),
            keys.size(), name(q.dtype()));
  for (int64_t b = 0; b < state.size(); ++b)
    QKV_CHECK(state.sums(b).size(0) == options.heads.kv_heads() && state.sums(b).size(1) == size, kShape,
              "mix: a state of {} numbers, {} needs [{}, {}]: make it with the same heads and mixer",
              state.sums(b).shape().str(), mixer.name(), options.heads.kv_heads(), size);
  const NoGrad off;
  const Call call(prepared(Var(q), Var(k), queries, keys, options, &state), Var(v), queries, keys, options);
  kernels::visit_dtype(q.dtype(), [&]<class T>(T) {
    Problem<T> p = call.problem<T>();
    for (int64_t b = 0; b < state.size(); ++b) p.states.push_back(state.sums(b).data<accumulator_t<T>>());
    const recurrence::Result<T> result{.out = call.out.template data<T>()};
    call.for_each_head(p.width, [&](int64_t b, int64_t h) {
      return p.causal && keys.length(b) < kFewTokens ? recurrence::recurrent_forward(p, b, h, result)
                                                     : recurrence::chunked_forward(p, b, h, result);
    });
  });
  return call.out;
}

void implied_weights(const Var& q, const Var& k, const Segments& queries, const Segments& keys,
                     const MixerOptions& options, Probe& probe) {
  QKV_CHECK(q.defined() && k.defined(), kValue, "implied_weights: q or k is missing");
  const HeadSizes& heads = options.heads;
  const Tensor v = Tensor::empty({keys.n_tokens(), heads.kv_heads() * heads.value_width()}, q.dtype());
  check(q.value(), k.value(), v, queries, keys, options);
  const NoGrad off;
  const Mixer& mixer = mixer_of(options);
  const MixerParts parts = prepared(q, k, queries, keys, options, nullptr);
  const int64_t width = mixer.width(heads);
  const Tensor all_q = parts.q.value().to(DType::kF64).contiguous(),
               all_k = parts.k.value().to(DType::kF64).contiguous(),
               decay = parts.decay.defined() ? parts.decay.to(DType::kF64).contiguous() : Tensor();
  const int64_t decay_width = decay.defined() ? decay.size(1) / heads.kv_heads() : 0;
  for (int64_t b = 0; b < queries.size(); ++b) {
    if (!Probe::wants(probe.sequences, b)) continue;
    for (int64_t h = 0; h < heads.n_heads; ++h) {
      if (!Probe::wants(probe.heads, h)) continue;
      const int64_t kv_head = h / heads.group();
      for (int64_t i = 0; i < queries.length(b); ++i) {
        if (!Probe::wants(probe.positions, queries.past(b) + i)) continue;
        const double* from = all_q.data<double>() + ((queries.begin(b) + i) * heads.n_heads + h) * width;
        std::vector<double> query(from, from + width), weights(static_cast<size_t>(keys.length(b)));
        double sum = 0;
        // From the youngest key to the oldest, the query decaying on the way.
        for (int64_t j = options.causal ? i : keys.length(b) - 1; j >= 0; --j) {
          const int64_t row = keys.begin(b) + j;
          const double* key = all_k.data<double>() + (row * heads.kv_heads() + kv_head) * width;
          double& weight = weights[static_cast<size_t>(j)];
          for (int64_t d = 0; d < width; ++d) weight += query[static_cast<size_t>(d)] * key[d];
          sum += weight;
          if (!decay.defined()) continue;
          const double* a =
              decay.data<double>() + (decay.size(0) == 1 ? 0 : row * decay.size(1)) + kv_head * decay_width;
          for (int64_t d = 0; d < width; ++d) query[static_cast<size_t>(d)] *= a[decay_width > 1 ? d : 0];
        }
        const double factor = mixer.normalised() ? recurrence::reciprocal_or_zero(sum) : mixer.scale(heads);
        AttentionRow row{.head = h, .sequence = b, .position = queries.past(b) + i};
        for (double weight : weights) row.attn_weights.push_back(static_cast<float>(factor * weight));
        probe.finish(row);
        probe.rows.push_back(std::move(row));
      }
    }
  }
}

}  // namespace qkv
