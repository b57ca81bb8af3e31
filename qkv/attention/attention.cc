#include "qkv/attention/attention.h"

#include "qkv/attention/paths/problem.h"
#include "qkv/base/checked.h"
#include "qkv/base/parallel.h"

namespace qkv {
namespace {

using paths::Problem;
using paths::Sequence;

const kernels::Table& table_of(const AttentionOptions& options) {
  return options.kernels ? *options.kernels : kernels::table();
}

void check_heads(const AttentionOptions& options) {
  const HeadSizes& h = options.heads;
  QKV_CHECK(
      h.n_heads > 0 && h.n_kv_heads >= 0 && h.d_k > 0 && h.d_v >= 0, kValue,
      "attention: n_heads ({}) and d_k ({}) must be positive, n_kv_heads ({}) and d_v ({}) not negative",
      h.n_heads, h.d_k, h.n_kv_heads, h.d_v);
  QKV_CHECK(h.n_heads % h.kv_heads() == 0, kValue,
            "attention: n_heads ({}) is not a multiple of n_kv_heads ({})", h.n_heads, h.kv_heads());
  QKV_CHECK(options.dropout.threshold < 65536, kValue, "attention: dropout must be below 1");
}

void check_matrix(const char* what, const Tensor& x, int64_t rows, const char* rows_of, int64_t heads,
                  int64_t d, DType dtype) {
  QKV_CHECK(x.defined() && x.rank() == 2, kShape,
            "attention: {} needs to be a matrix [n_tokens, heads * width]", what);
  QKV_CHECK(x.dtype() == dtype, kDtype, "attention: {} is {}, but q is {}", what, name(x.dtype()),
            name(dtype));
  QKV_CHECK(x.size(0) == rows, kShape, "attention: {} has {} rows, {} has {} tokens", what, x.size(0),
            rows_of, rows);
  QKV_CHECK(x.size(1) == heads * d, kShape, "attention: {} has {} columns, needs {} heads x {} = {}", what,
            x.size(1), heads, d, heads * d);
}

// Rows may be strided, a row's elements must be adjacent.
Tensor with_adjacent_columns(const Tensor& x) {
  return x.size(1) <= 1 || x.stride(1) == 1 ? x : x.contiguous();
}

int64_t row_stride(const Tensor& x) { return x.size(0) <= 1 ? x.size(1) : x.stride(0); }

// All but the sequences. q is prepared.
template <class T>
Problem<T> problem_of(const Tensor& q, const Pairing& pairing, const AttentionOptions& options) {
  using A = accumulator_t<T>;
  Problem<T> p;
  p.kernels = &table_of(options).of<T>();
  p.heads = options.heads;
  p.kind = pairing.kind;
  p.width = pairing.width;
  p.scale = static_cast<A>(pairing.scale);
  QKV_CHECK(p.scale > 0 && std::isfinite(p.scale), kValue, "attention: scale is {}, needs to be positive",
            pairing.scale);
  if (pairing.kind == Pairing::Kind::kTanhSum) {
    const Tensor& v = pairing.v->value();
    QKV_CHECK((v.shape() == Shape{p.heads.n_heads, p.width}), kShape,
              "attention: {} is {}, needs to be [{}, {}]", pairing.v->name(), v.shape().str(),
              p.heads.n_heads, p.width);
    QKV_CHECK(v.dtype() == accumulator_dtype(q.dtype()), kDtype,
              "attention: {} is {}, which {} queries cannot use", pairing.v->name(), name(v.dtype()),
              name(q.dtype()));
    p.tanh_v = v.data<A>();
  }
  p.rules = options.rules;
  p.dropout = options.dropout;
  p.q = q.data<T>();
  p.n_q = q.size(0);
  p.q_stride = row_stride(q);
  return p;
}

template <class T>
void forward(const Problem<T>& p, const paths::Result<T>& result, AttentionPath path) {
  if (path == AttentionPath::kReference)
    paths::reference_forward(p, result);
  else
    paths::blocked_forward(p, result);
}

// Runs of at most 64 consecutive rows that a probe asks for, of one head.
template <class T>
void answer_probe(const Problem<T>& p, const accumulator_t<T>* lse, const AttentionOptions& options) {
  Probe& probe = *options.probe;
  constexpr int64_t kRun = 64;
  for (const Sequence<T>& s : p.sequences) {
    if (!Probe::wants(probe.sequences, s.index)) continue;
    for (int64_t h = 0; h < p.heads.n_heads; ++h) {
      if (!Probe::wants(probe.heads, h)) continue;
      for (int64_t i = 0; i < s.q_len;) {
        int64_t rows = 0;
        while (rows < kRun && i + rows < s.q_len && Probe::wants(probe.positions, s.past + i + rows)) ++rows;
        const accumulator_t<T>* row_lse = lse + h * p.n_q + s.q_begin + i;
        float* places[kRun];
        const size_t first = probe.rows.size();
        for (int64_t r = 0; r < rows; ++r)
          probe.rows.push_back({.site = options.site,
                                .layer = options.layer,
                                .head = h,
                                .sequence = s.index,
                                .position = s.past + i + r,
                                .lse = static_cast<double>(row_lse[r]),
                                .attn_weights = std::vector<float>(static_cast<size_t>(s.kv_len))});
        for (int64_t r = 0; r < rows; ++r)
          places[r] = probe.rows[first + static_cast<size_t>(r)].attn_weights.data();
        if (rows > 0) paths::attention_weights(p, s, h, i, rows, row_lse, places);
        i += rows > 0 ? rows : 1;
      }
    }
  }
}

bool probed(const AttentionOptions& options) {
  return options.probe != nullptr && options.probe->wants(options.site, options.layer);
}

// One call on the tape: what its backward needs.
struct Call {
  Var q, k, v;  // q and k prepared
  Segments queries, keys;
  AttentionOptions options;
  Pairing pairing;
  Tensor out, lse;

  template <class T>
  Problem<T> problem() const {
    Problem<T> p = problem_of<T>(q.value(), pairing, options);
    for (int64_t b = 0; b < queries.size(); ++b)
      p.sequences.push_back({.index = b,
                             .q_begin = queries.begin(b),
                             .q_len = queries.length(b),
                             .past = queries.past(b),
                             .k = k.value().data<T>() + keys.begin(b) * row_stride(k.value()),
                             .v = v.value().data<T>() + keys.begin(b) * row_stride(v.value()),
                             .kv_len = keys.length(b),
                             .k_stride = row_stride(k.value()),
                             .v_stride = row_stride(v.value()),
                             .kv_begin = keys.begin(b)});
    return p;
  }

  template <class T>
  void backward(const Tensor& dout) const {
    using A = accumulator_t<T>;
    const Problem<T> p = problem<T>();
    const bool uniform = pairing.kind == Pairing::Kind::kUniform;
    const auto like = [](const Var& x) { return Tensor::empty(x.value().shape(), x.dtype()); };
    const Tensor dq = uniform ? Tensor() : like(q), dk = uniform ? Tensor() : like(k), dv = like(v);
    const Tensor d_tanh_v =
        p.tanh_v ? Tensor::zeros({queries.size(), p.heads.n_heads * p.width}, pairing.v->value().dtype())
                 : Tensor();
    const Tensor packed_dout = dout.contiguous();
    const paths::Gradients<T> g{.out = out.data<T>(),
                                .dout = packed_dout.data<T>(),
                                .lse = lse.data<A>(),
                                .dq = uniform ? nullptr : dq.data<T>(),
                                .dk = uniform ? nullptr : dk.data<T>(),
                                .dv = dv.data<T>(),
                                .d_tanh_v = p.tanh_v ? d_tanh_v.data<A>() : nullptr};
    if (options.path == AttentionPath::kReference)
      paths::reference_backward(p, g);
    else
      paths::blocked_backward(p, g);
    if (!uniform) {
      q.add_grad(dq);
      k.add_grad(dk);
    }
    v.add_grad(dv);
    if (p.tanh_v && pairing.v->trainable()) {
      A* sum = pairing.v->grad().template data<A>();
      for (int64_t b = 0; b < queries.size(); ++b)
        for (int64_t i = 0; i < p.heads.n_heads * p.width; ++i)
          sum[i] += g.d_tanh_v[b * p.heads.n_heads * p.width + i];
    }
  }
};

}  // namespace

const Score& score_of(const AttentionOptions& options) {
  static const ScorePtr usual = scaled_dot();
  return options.score ? *options.score : *usual;
}

Var attention(const Var& q, const Var& k, const Var& v, const Segments& queries, const Segments& keys,
              const AttentionOptions& options) {
  check_heads(options);
  const HeadSizes& heads = options.heads;
  QKV_CHECK(q.defined() && k.defined() && v.defined(), kValue, "attention: q, k or v is missing");
  check_matrix("q", q.value(), queries.n_tokens(), "queries", heads.n_heads, heads.d_k, q.dtype());
  check_matrix("k", k.value(), keys.n_tokens(), "keys", heads.kv_heads(), heads.d_k, q.dtype());
  check_matrix("v", v.value(), keys.n_tokens(), "keys", heads.kv_heads(), heads.value_width(), q.dtype());
  QKV_CHECK(queries.size() == keys.size(), kShape, "attention: {} query sequences, but {} key sequences",
            queries.size(), keys.size());

  const Score& score = score_of(options);
  auto call = std::make_shared<Call>(Call{.q = score.prepare_queries(q, heads),
                                          .k = score.prepare_keys(k, heads),
                                          .v = v,
                                          .queries = queries,
                                          .keys = keys,
                                          .options = options,
                                          .pairing = score.pairing(heads)});
  for (const Var* x : {&call->q, &call->k, &call->v})
    QKV_CHECK(x->size(1) <= 1 || x->value().stride(1) == 1, kShape,
              "attention: the elements of a row must be adjacent; call contiguous() first");
  const bool trains_v = call->pairing.kind == Pairing::Kind::kTanhSum && call->pairing.v->trainable();
  const bool uses_qk = call->pairing.kind != Pairing::Kind::kUniform;
  const bool differentiable =
      trains_v || v.requires_grad() || (uses_qk && (call->q.requires_grad() || call->k.requires_grad()));
  const bool keeps_lse = (grad_enabled() && differentiable) || probed(options);

  call->out = Tensor::empty({q.size(0), heads.n_heads * heads.value_width()}, q.dtype());
  if (keeps_lse) call->lse = Tensor::empty({heads.n_heads, q.size(0)}, accumulator_dtype(q.dtype()));
  kernels::visit_dtype(q.dtype(), [&]<class T>(T) {
    const Problem<T> p = call->problem<T>();
    accumulator_t<T>* lse = keeps_lse ? call->lse.template data<accumulator_t<T>>() : nullptr;
    forward(p, {.out = call->out.template data<T>(), .lse = lse}, options.path);
    if (probed(options)) answer_probe(p, lse, options);
  });

  return Var::result(call->out, differentiable, {call->q, call->k, call->v}, [call](const Tensor& dout) {
    kernels::visit_dtype(dout.dtype(), [&]<class T>(T) { call->backward<T>(dout); });
  });
}

Tensor attention_cached(const Tensor& q, const Segments& queries, std::span<const KeyValueSpan> keys,
                        DType dtype, const AttentionOptions& options) {
  check_heads(options);
  const HeadSizes& heads = options.heads;
  check_matrix("q", q, queries.n_tokens(), "queries", heads.n_heads, heads.d_k, dtype);
  QKV_CHECK(queries.size() == static_cast<int64_t>(keys.size()), kShape,
            "attention: {} query sequences, but {} key spans", queries.size(), keys.size());
  for (const KeyValueSpan& span : keys)
    QKV_CHECK(span.kv_len >= 0 && (span.kv_len == 0 || (span.k && span.v)), kValue,
              "attention: a key span of length {}{}", span.kv_len, span.kv_len > 0 ? " without memory" : "");
  const NoGrad off;
  const Score& score = score_of(options);
  const Tensor prepared = with_adjacent_columns(score.prepare_queries(Var(q), heads).value());
  const Tensor out = Tensor::empty({q.size(0), heads.n_heads * heads.value_width()}, dtype);
  const bool asked = probed(options);
  // Without rules a row's place says nothing, so the rows of neighbours with the same keys are as good as one
  // sequence's.
  const bool merge = options.rules.empty() && !asked;

  kernels::visit_dtype(dtype, [&]<class T>(T) {
    using A = accumulator_t<T>;
    Problem<T> p = problem_of<T>(prepared, score.pairing(heads), options);
    p.dropout = {};
    for (int64_t b = 0; b < queries.size(); ++b) {
      const KeyValueSpan& span = keys[static_cast<size_t>(b)];
      if (merge && b > 0) {
        const KeyValueSpan& before = keys[static_cast<size_t>(b - 1)];
        if (span.k == before.k && span.v == before.v && span.kv_len == before.kv_len &&
            span.k_row_stride == before.k_row_stride && span.v_row_stride == before.v_row_stride) {
          p.sequences.back().q_len += queries.length(b);
          continue;
        }
      }
      p.sequences.push_back({.index = b,
                             .q_begin = queries.begin(b),
                             .q_len = queries.length(b),
                             .past = queries.past(b),
                             .k = static_cast<const T*>(span.k),
                             .v = static_cast<const T*>(span.v),
                             .kv_len = span.kv_len,
                             .k_stride = span.k_row_stride,
                             .v_stride = span.v_row_stride});
    }
    const Tensor lse = asked ? Tensor::empty({heads.n_heads, q.size(0)}, accumulator_dtype(dtype)) : Tensor();
    A* lse_data = asked ? lse.data<A>() : nullptr;
    forward(p, {.out = out.data<T>(), .lse = lse_data}, options.path);
    if (asked) answer_probe(p, lse_data, options);
  });
  return out;
}

}  // namespace qkv
