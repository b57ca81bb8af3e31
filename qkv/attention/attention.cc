#include "qkv/attention/attention.h"

#include "qkv/attention/paths/cached_rows.h"
#include "qkv/attention/paths/problem.h"
#include "qkv/attention/paths/shared_sums.h"
#include "qkv/base/checked.h"
#include "qkv/base/parallel.h"
#include "qkv/base/trace.h"
#include "qkv/tensor/rows.h"

namespace qkv {
namespace {

using paths::Problem;
using paths::RowsGradient;
using paths::Sequence;
using paths::SharedSums;

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
  QKV_CHECK(options.dropout.threshold < 65536, kValue,
            "attention: dropout must be below 1, by 1/65536 at least");
  for (const RulePtr& rule : options.rules)
    QKV_CHECK(dynamic_cast<const Mask*>(rule.get()) || dynamic_cast<const Edit*>(rule.get()), kValue,
              "attention: a rule is null, or neither a Mask nor an Edit");
  const Normalizer& normalizer = normalizer_of(options);
  const bool tiles = options.path == AttentionPath::kBlocked || options.path == AttentionPath::kDecode;
  QKV_CHECK(!tiles || normalizer.blockwise() != Normalizer::Blockwise::kNone, kUnsupported,
            "attention: {} needs whole rows of scores, and the {} path goes tile by tile: take kAuto, kRows "
            "or kReference",
            normalizer.name(), options.path == AttentionPath::kDecode ? "decode" : "blocked");
  QKV_CHECK(!tiles || !options.talking, kUnsupported,
            "attention: talking heads need the rows of all heads at once, and the {} path goes tile by tile: "
            "take kAuto, kRows or kReference",
            options.path == AttentionPath::kDecode ? "decode" : "blocked");
}

// Numbers that each head has of its own, [n_heads, size].
template <class A>
const A* head_numbers(const ParameterPtr& parameter, const HeadSizes& heads, DType dtype, int64_t size) {
  const Tensor& x = parameter->value();
  QKV_CHECK(x.rank() == 2 && x.size(0) == heads.n_heads && (size == 0 || x.size(1) == size), kShape,
            "attention: {} is {}, needs to be [{}, {}]", parameter->name(), x.shape().str(), heads.n_heads,
            size == 0 ? "any" : std::to_string(size));
  QKV_CHECK(x.dtype() == accumulator_dtype(dtype), kDtype, "attention: {} is {}, which {} queries cannot use",
            parameter->name(), name(x.dtype()), name(dtype));
  return x.data<A>();
}

// For a trace.
std::string sizes_text(const Segments& queries, int64_t n_keys, const HeadSizes& heads, DType dtype) {
  return fmt::format("{} sequences, {} queries, {} keys, {} heads of {}, {}", queries.size(),
                     queries.n_tokens(), n_keys, heads.n_heads, heads.d_k, name(dtype));
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

// Vectors of distances, of `width` for each head or for all heads alike. `what`: "relative keys".
template <class T>
paths::Relative<T> relative_of(const char* what, const Var& x, int64_t zero, int64_t width,
                               const HeadSizes& heads) {
  QKV_CHECK(x.defined() && x.value().rank() == 2 && x.size(0) > 0 && zero >= 0 && zero < x.size(0), kShape,
            "attention: {} need a matrix of rows, `zero` one of them", what);
  const Tensor& rows = x.value();
  const bool shared = rows.size(1) == width && heads.n_heads > 1;
  QKV_CHECK((shared || rows.size(1) == heads.n_heads * width) && rows.dtype() == dtype_of<T>::value &&
                rows.is_contiguous(),
            kShape, "attention: {} are {} {}, need {} columns, or {} for all heads alike, as {}", what,
            rows.shape().str(), name(rows.dtype()), heads.n_heads * width, width, name(dtype_of<T>::value));
  return {.rows = rows.data<T>(),
          .n_rows = rows.size(0),
          .row_stride = rows.size(1),
          .head_stride = shared ? 0 : width,
          .zero = zero};
}

// q is prepared.
template <class T>
paths::Relative<T> relative_keys_of(const Tensor& q, const Problem<T>& p, const AttentionOptions& options) {
  const RelativeKeys& r = *options.relative_keys;
  QKV_CHECK(p.kind == Pairing::Kind::kDot, kUnsupported,
            "attention: relative keys need a score that is a dot product; {} is none",
            score_of(options).name());
  paths::Relative<T> relative = relative_of<T>("relative keys", r.rows, r.zero, p.width, p.heads);
  const Tensor met = r.queries.defined() ? r.queries.value() : q;
  QKV_CHECK(met.shape() == q.shape() && met.dtype() == q.dtype() && (met.size(1) <= 1 || met.stride(1) == 1),
            kShape, "attention: the queries of the relative keys are {} {}, q is {} {}", met.shape().str(),
            name(met.dtype()), q.shape().str(), name(q.dtype()));
  relative.q = met.data<T>();
  relative.q_stride = row_stride(met);
  return relative;
}

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
  const auto numbers = [&](const ParameterPtr& parameter, int64_t size) {
    return head_numbers<A>(parameter, p.heads, q.dtype(), size);
  };
  if (pairing.kind == Pairing::Kind::kTanhSum) {
    QKV_CHECK(pairing.scale == 1, kValue, "attention: {} scales a sum of tanh by {}; scale its v instead",
              score_of(options).name(), pairing.scale);
    p.tanh_v = numbers(pairing.v, p.width);
  }
  for (const RulePtr& rule : options.rules) {
    if (const auto* mask = dynamic_cast<const Mask*>(rule.get())) p.masks.push_back(mask);
    if (const auto* edit = dynamic_cast<const Edit*>(rule.get())) {
      if (edit->parameter()) (void)numbers(edit->parameter(), 0);
      p.edits.push_back(edit);
    }
  }
  if (options.relative_keys) p.relative_keys = relative_keys_of<T>(q, p, options);
  if (options.relative_values)
    p.relative_values = relative_of<T>("relative values", options.relative_values->rows,
                                       options.relative_values->zero, p.d_v(), p.heads);
  p.normalizer = &normalizer_of(options);
  if (p.normalizer->parameter()) p.sink = numbers(p.normalizer->parameter(), 1);
  p.exact = &table_of(options).of<A>().attention;
  p.exact_gemm = &table_of(options).of<A>().gemm;
  if (options.talking.scores) p.mix_scores = numbers(options.talking.scores, p.heads.n_heads);
  if (options.talking.weights) p.mix_weights = numbers(options.talking.weights, p.heads.n_heads);
  p.dropout = options.dropout;
  p.q = q.data<T>();
  p.n_q = q.size(0);
  p.q_stride = row_stride(q);
  return p;
}

// kAuto stays, where tiles will do: prompts and decode steps then go different ways.
template <class T>
AttentionPath path_of(const Problem<T>& p, AttentionPath path) {
  return path == AttentionPath::kAuto && p.needs_rows() ? AttentionPath::kRows : path;
}

template <class T>
void run_forward(const Problem<T>& p, const paths::Result<T>& result, AttentionPath path) {
  switch (path_of(p, path)) {
    case AttentionPath::kReference:
      return paths::reference_forward(p, result);
    case AttentionPath::kRows:
      return paths::row_blocks_forward(p, result);
    case AttentionPath::kBlocked:
      return paths::blocked_forward(p, result);
    case AttentionPath::kDecode:
      return paths::decode_forward(p, result);
    case AttentionPath::kAuto:
      break;
  }
  // A server's batch has prompts and decode steps. Each goes where it is faster; the bits are the same.
  const auto few = [&](const Sequence<T>& s) { return s.q_len * p.heads.group() <= paths::kDecodeRows; };
  Problem<T> part = p;
  const auto steps = std::stable_partition(part.sequences.begin(), part.sequences.end(),
                                           [&](const Sequence<T>& s) { return !few(s); });
  std::vector<Sequence<T>> decode(steps, part.sequences.end());
  part.sequences.erase(steps, part.sequences.end());
  if (!part.sequences.empty()) paths::blocked_forward(part, result);
  part.sequences = std::move(decode);
  if (!part.sequences.empty()) paths::decode_forward(part, result);
}

template <class T>
void run_backward(const Problem<T>& p, const paths::Gradients<T>& gradients, AttentionPath path) {
  switch (path_of(p, path)) {
    case AttentionPath::kReference:
      return paths::reference_backward(p, gradients);
    case AttentionPath::kRows:
      return paths::row_blocks_backward(p, gradients);
    default:
      return paths::blocked_backward(p, gradients);
  }
}

// The numbers of RowSoftmax for n_heads x n_q rows: [2, n_heads, n_q].
Tensor kept_rows(int64_t n_heads, int64_t n_q, DType dtype) {
  return Tensor::empty({2, n_heads, n_q}, accumulator_dtype(dtype));
}
template <class A>
kernels::RowSoftmax<A> rows_in(const Tensor& kept) {
  if (!kept.defined()) return {};
  return {kept.data<A>(), kept.data<A>() + kept.numel() / 2};
}

double log_sum(double max, double share) {
  return share == 0 ? -std::numeric_limits<double>::infinity() : max - std::log(share);
}

// Runs of at most 64 consecutive rows that a probe asks for, of one head.
template <class T>
void answer_probe(const Problem<T>& p, kernels::RowSoftmax<accumulator_t<T>> softmax,
                  const AttentionOptions& options) {
  Probe& probe = *options.probe;
  constexpr int64_t kRun = 64;
  for (const Sequence<T>& s : p.sequences) {
    if (!Probe::wants(probe.sequences, s.index)) continue;
    for (int64_t h = 0; h < p.heads.n_heads; ++h) {
      if (!Probe::wants(probe.heads, h)) continue;
      for (int64_t i = 0; i < s.q_len;) {
        int64_t rows = 0;
        while (rows < kRun && i + rows < s.q_len && Probe::wants(probe.positions, s.past + i + rows)) ++rows;
        const auto row = softmax.from(h * p.n_q + s.q_begin + i);
        float* places[kRun];
        const size_t first = probe.rows.size();
        for (int64_t r = 0; r < rows; ++r)
          probe.rows.push_back({.site = options.site,
                                .layer = options.layer,
                                .head = h,
                                .sequence = s.index,
                                .position = s.past + i + r,
                                .lse = log_sum(row.max[r], row.share[r]),
                                .attn_weights = std::vector<float>(static_cast<size_t>(s.kv_len))});
        for (int64_t r = 0; r < rows; ++r)
          places[r] = probe.rows[first + static_cast<size_t>(r)].attn_weights.data();
        if (rows > 0) paths::attention_weights(p, s, h, i, rows, row, places);
        for (int64_t r = 0; r < rows; ++r) probe.finish(probe.rows[first + static_cast<size_t>(r)]);
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
  Tensor out, kept;

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
    Problem<T> p = problem<T>();
    const int64_t n_heads = p.heads.n_heads;
    const bool uniform = pairing.kind == Pairing::Kind::kUniform;
    const auto like = [](const Var& x) { return Tensor::empty(x.value().shape(), x.dtype()); };
    const Tensor dq = uniform ? Tensor() : like(q), dk = uniform ? Tensor() : like(k), dv = like(v);
    const std::optional<RelativeKeys>& keys_rows = options.relative_keys;
    const std::optional<RelativeValues>& values_rows = options.relative_values;
    const Tensor d_relative_q =
        keys_rows && keys_rows->queries.defined() ? like(keys_rows->queries) : Tensor();
    const Tensor packed_dout = dout.contiguous();
    paths::Gradients<T> g{.out = out.data<T>(),
                          .dout = packed_dout.data<T>(),
                          .rows = rows_in<A>(kept),
                          .dq = uniform ? nullptr : dq.data<T>(),
                          .dk = uniform ? nullptr : dk.data<T>(),
                          .dv = dv.data<T>(),
                          .d_relative_q = d_relative_q.defined() ? d_relative_q.data<T>() : nullptr,
                          .d_edits = std::vector<paths::HeadSums<A>>(p.edits.size())};

    SharedSums<A> shared;
    const auto want = [&](paths::HeadSums<A>& numbers, const ParameterPtr& parameter) {
      if (!parameter) return;
      const int64_t size = parameter->value().size(1);
      shared.want(numbers, n_heads, size, [&parameter = *parameter, n = n_heads * size](const A* one) {
        if (!parameter.trainable()) return;
        A* sum = parameter.grad().template data<A>();
        for (int64_t i = 0; i < n; ++i) sum[i] += one[i];
      });
    };
    want(g.d_tanh_v, pairing.v);
    want(g.d_normalizer, p.normalizer->parameter());
    want(g.d_mix_scores, options.talking.scores);
    want(g.d_mix_weights, options.talking.weights);
    for (size_t e = 0; e < p.edits.size(); ++e) want(g.d_edits[e], p.edits[e]->parameter());
    std::optional<RowsGradient<T>> d_keys_rows, d_values_rows;
    const auto want_rows = [&](paths::HeadSums<A>& numbers, std::optional<RowsGradient<T>>& sum,
                               const Var& rows, const paths::Relative<T>& relative, int64_t width, A factor) {
      if (!rows.requires_grad()) return;
      sum.emplace(RowsGradient<T>{relative, width, n_heads, factor, rows.value().shape()});
      shared.want(numbers, n_heads, relative.n_rows * width, [&sum](const A* one) { sum->add(one); });
    };
    if (keys_rows)
      want_rows(g.d_relative_keys, d_keys_rows, keys_rows->rows, p.relative_keys, p.width, p.scale);
    if (values_rows)
      want_rows(g.d_relative_values, d_values_rows, values_rows->rows, p.relative_values, p.d_v(),
                p.dropout_scale());

    for (const Edit* edit : p.edits) edit->begin_backward();
    shared.gather(p, [&] { run_backward(p, g, options.path); });
    for (const Edit* edit : p.edits) edit->end_backward();
    if (!uniform) {
      q.add_grad(dq);
      k.add_grad(dk);
    }
    v.add_grad(dv);
    if (d_relative_q.defined()) keys_rows->queries.add_grad(d_relative_q);
    if (d_keys_rows) keys_rows->rows.add_grad(d_keys_rows->rounded());
    if (d_values_rows) values_rows->rows.add_grad(d_values_rows->rounded());
  }
};

}  // namespace

const Normalizer& normalizer_of(const AttentionOptions& options) {
  return options.normalizer ? *options.normalizer : *softmax_normalizer();
}

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
  const trace::Span span("attention", trace::Kind::kOp);
  span.note([&] { return sizes_text(queries, keys.n_tokens(), heads, q.dtype()); });
  trace::count_bytes(q.value().n_bytes() + k.value().n_bytes() + v.value().n_bytes() +
                     q.size(0) * heads.n_heads * heads.value_width() * size_of(q.dtype()));

  const Score& score = score_of(options);
  auto call = std::make_shared<Call>(Call{.q = score.prepare_queries(q, heads),
                                          .k = score.prepare_keys(k, heads),
                                          .v = v,
                                          .queries = queries,
                                          .keys = keys,
                                          .options = options,
                                          .pairing = score.pairing(heads)});
  // A score of one's own may say one width and make another.
  check_matrix("a prepared q", call->q.value(), queries.n_tokens(), "queries", heads.n_heads,
               call->pairing.width, q.dtype());
  check_matrix("a prepared k", call->k.value(), keys.n_tokens(), "keys", heads.kv_heads(),
               call->pairing.width, q.dtype());
  for (const Var* x : {&call->q, &call->k, &call->v})
    QKV_CHECK(x->size(1) <= 1 || x->value().stride(1) == 1, kShape,
              "attention: the elements of a row must be adjacent; call contiguous() first");
  const auto trains = [](const ParameterPtr& p) { return p && p->trainable(); };
  bool trains_numbers = trains(call->pairing.v) || trains(normalizer_of(options).parameter()) ||
                        trains(options.talking.scores) || trains(options.talking.weights);
  for (const RulePtr& rule : options.rules)
    if (const auto* edit = dynamic_cast<const Edit*>(rule.get())) {
      trains_numbers = trains_numbers || trains(edit->parameter());
      for (const Var& x : edit->inputs()) trains_numbers = trains_numbers || x.requires_grad();
    }
  if (options.relative_keys)
    trains_numbers =
        trains_numbers || options.relative_keys->rows.requires_grad() ||
        (options.relative_keys->queries.defined() && options.relative_keys->queries.requires_grad());
  if (options.relative_values)
    trains_numbers = trains_numbers || options.relative_values->rows.requires_grad();
  const bool uses_qk = call->pairing.kind != Pairing::Kind::kUniform;
  const bool differentiable = trains_numbers || v.requires_grad() ||
                              (uses_qk && (call->q.requires_grad() || call->k.requires_grad()));
  const bool keeps = (grad_enabled() && differentiable) || probed(options);

  call->out = Tensor::empty({q.size(0), heads.n_heads * heads.value_width()}, q.dtype());
  if (keeps) call->kept = kept_rows(heads.n_heads, q.size(0), q.dtype());
  kernels::visit_dtype(q.dtype(), [&]<class T>(T) {
    const Problem<T> p = call->problem<T>();
    const auto rows = rows_in<accumulator_t<T>>(call->kept);
    run_forward(p, {.out = call->out.template data<T>(), .rows = rows}, options.path);
    if (probed(options)) answer_probe(p, rows, options);
  });

  std::vector<Var> inputs{call->q, call->k, call->v};
  for (const RulePtr& rule : options.rules)
    if (const auto* edit = dynamic_cast<const Edit*>(rule.get()))
      for (const Var& x : edit->inputs()) inputs.push_back(x);
  if (options.relative_keys) inputs.push_back(options.relative_keys->rows);
  if (options.relative_values) inputs.push_back(options.relative_values->rows);
  if (options.relative_keys && options.relative_keys->queries.defined())
    inputs.push_back(options.relative_keys->queries);
  return Var::result(call->out, differentiable, std::move(inputs), [call](const Tensor& dout) {
    kernels::visit_dtype(dout.dtype(), [&]<class T>(T) { call->backward<T>(dout); });
  });
}

Tensor attention_cached(const Tensor& q, const Segments& queries, std::span<const KeyValueSpan> keys,
                        DType dtype, const AttentionOptions& options) {
  check_heads(options);
  const HeadSizes& heads = options.heads;
  QKV_CHECK(q.dtype() == dtype, kDtype, "attention: q is {}, but the cached keys and values are {}",
            name(q.dtype()), name(dtype));
  check_matrix("q", q, queries.n_tokens(), "queries", heads.n_heads, heads.d_k, dtype);
  QKV_CHECK(queries.size() == static_cast<int64_t>(keys.size()), kShape,
            "attention: {} query sequences, but {} key spans", queries.size(), keys.size());
  for (const KeyValueSpan& span : keys)
    QKV_CHECK(span.kv_len >= 0 && (span.kv_len == 0 || (span.k && span.v) || (span.k_pages && span.v_pages)),
              kValue, "attention: a key span of length {}{}", span.kv_len,
              span.kv_len > 0 ? " without memory" : "");
  const trace::Span traced("attention", trace::Kind::kOp);
  int64_t n_keys = 0, bytes_of_keys = 0;
  for (const KeyValueSpan& each : keys) {
    const int64_t element = each.stored == Stored::kPlain  ? size_of(dtype)
                            : each.stored == Stored::kBF16 ? 2
                                                           : 1;
    n_keys += each.kv_len;
    bytes_of_keys += each.kv_len * heads.kv_heads() * (heads.d_k + heads.value_width()) * element;
  }
  traced.note([&] { return sizes_text(queries, n_keys, heads, dtype); });
  trace::count_bytes(q.n_bytes() + bytes_of_keys +
                     q.size(0) * heads.n_heads * heads.value_width() * size_of(dtype));
  const NoGrad off;
  const Score& score = score_of(options);
  const Pairing pairing = score.pairing(heads);
  const Tensor prepared = with_adjacent_columns(score.prepare_queries(Var(q), heads).value());
  check_matrix("a prepared q", prepared, queries.n_tokens(), "queries", heads.n_heads, pairing.width, dtype);
  const Tensor out = Tensor::empty({q.size(0), heads.n_heads * heads.value_width()}, dtype);
  const bool asked = probed(options);
  // Without rules and vectors of distances a row's place says nothing, so the rows of neighbours with the
  // same keys are as good as one sequence's.
  const bool merge = options.rules.empty() && !options.relative_keys && !options.relative_values && !asked;

  kernels::visit_dtype(dtype, [&]<class T>(T) {
    using A = accumulator_t<T>;
    Problem<T> p = problem_of<T>(prepared, pairing, options);
    p.dropout = {};
    for (int64_t b = 0; b < queries.size(); ++b) {
      const KeyValueSpan& span = keys[static_cast<size_t>(b)];
      if (merge && b > 0) {
        const KeyValueSpan& before = keys[static_cast<size_t>(b - 1)];
        if (span == before) {
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
                             .v_stride = span.v_row_stride,
                             .kv_begin = 0,
                             .cached = span.plain() ? nullptr : &span});
    }
    // The reference reads keys row by row, and gets them as T, in one block.
    std::vector<Tensor> read;
    for (Sequence<T>& s : p.sequences)
      if (s.cached && options.path == AttentionPath::kReference) read.push_back(paths::read_cached(p, s));
    const Tensor kept = asked ? kept_rows(heads.n_heads, q.size(0), dtype) : Tensor();
    run_forward(p, {.out = out.data<T>(), .rows = rows_in<A>(kept)}, options.path);
    if (asked) answer_probe(p, rows_in<A>(kept), options);
  });
  return out;
}

}  // namespace qkv
