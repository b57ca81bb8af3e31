#include "qkv/attention/multi_head_attention.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "qkv/attention/heads/head_controls.h"
#include "qkv/attention/sdpa.h"
#include "qkv/autograd/ops/elementwise.h"
#include "qkv/autograd/ops/linear.h"
#include "qkv/base/error.h"
#include "qkv/base/trace.h"

namespace qkv {
namespace {

std::string shape_of(const Var& x) { return x.defined() ? x.value().shape().str() : "nothing"; }

struct Sizes {
  int64_t batch = 0, q_len = 0, kv_len = 0, width = 0, n_heads = 0;
  int64_t extra = 0;  // keys of bias_k and add_zero_attn
  bool batched = true;
  int64_t all_keys() const { return kv_len + extra; }
};

// ---- layouts ----

// [len, batch, width], [batch, len, width] or [len, width] as rows: sequences back to back.
Var to_rows(const Var& x, bool batch_first) {
  const trace::Span span("to_rows", trace::Kind::kOp);
  const Tensor& value = x.value();
  const bool swap = value.rank() == 3 && !batch_first;
  const Tensor sequences = (swap ? value.transpose(0, 1) : value).contiguous();
  return Var::result(
      sequences.reshape({sequences.numel() / std::max<int64_t>(1, value.size(-1)), value.size(-1)}),
      x.requires_grad(), {x}, [=](const Tensor& dy) {
        const Tensor dx = dy.contiguous().reshape(sequences.shape());
        x.add_grad(swap ? dx.transpose(0, 1) : dx);
      });
}

Var from_rows(const Var& rows, const Sizes& n, bool batch_first) {
  const trace::Span span("from_rows", trace::Kind::kOp);
  const Shape sequences = n.batched ? Shape{n.batch, n.q_len, n.width} : Shape{n.q_len, n.width};
  const bool swap = n.batched && !batch_first;
  const Tensor value = rows.value().contiguous().reshape(sequences);
  return Var::result(
      swap ? value.transpose(0, 1) : value, rows.requires_grad(), {rows}, [=](const Tensor& dy) {
        rows.add_grad((swap ? dy.transpose(0, 1) : dy).contiguous().reshape({n.batch * n.q_len, n.width}));
      });
}

// ---- keys that belong to no token ----

// Each sequence's rows of x, then the rows of `last`, the same for all.
Var with_last_rows(const Var& x, int64_t batch, const Var& last) {
  const trace::Span span("with_last_rows", trace::Kind::kOp);
  const int64_t more = last.size(0), length = x.size(0) / std::max<int64_t>(1, batch), each = length + more;
  const Tensor out = Tensor::empty({batch * each, x.size(1)}, x.dtype());
  for (int64_t b = 0; b < batch; ++b) {
    out.rows(b * each, b * each + length).copy_from(x.value().rows(b * length, (b + 1) * length));
    out.rows(b * each + length, (b + 1) * each).copy_from(last.value());
  }
  return Var::result(out, x.requires_grad() || last.requires_grad(), {x, last}, [=](const Tensor& dy) {
    if (x.requires_grad()) {
      const Tensor dx = Tensor::empty(x.value().shape(), x.dtype());
      for (int64_t b = 0; b < batch; ++b)
        dx.rows(b * length, (b + 1) * length).copy_from(dy.rows(b * each, b * each + length));
      x.add_grad(dx);
    }
    if (last.requires_grad()) {
      const Tensor sum = Tensor::zeros({more, x.size(1)}, accumulator_dtype(x.dtype()));
      for (int64_t m = 0; m < more; ++m) {
        const Tensor of_all = Tensor::empty({batch, x.size(1)}, x.dtype());
        for (int64_t b = 0; b < batch; ++b)
          of_all.rows(b, b + 1).copy_from(dy.rows(b * each + length + m, b * each + length + m + 1));
        add_column_sum(of_all, sum.rows(m, m + 1).reshape({x.size(1)}));
      }
      last.add_grad(sum.to(x.dtype()));
    }
  });
}

// bias (k or v) if there is one, then zeros if asked for.
Var with_extra(Var x, const ParameterPtr& bias, const Sizes& n, bool add_zero_attn) {
  if (bias) x = with_last_rows(x, n.batch, reshape(value_of(bias, x.dtype()), {1, n.width}));
  if (add_zero_attn) x = with_last_rows(x, n.batch, Var(Tensor::zeros({1, n.width}, x.dtype())));
  return x;
}

// ---- masks ----

// A mask's or bias's sizes as [batch, n_heads, q_len, kv_len], any of them 1.
Shape mask_shape(const Tensor& x, const Sizes& n, const char* what) {
  const Shape& s = x.shape();
  if (s == Shape{n.q_len, n.kv_len}) return {1, 1, n.q_len, n.kv_len};
  QKV_CHECK((s == Shape{n.batch * n.n_heads, n.q_len, n.kv_len}), kShape,
            "multi_head_attention: {} is {}, needs to be [q_len, kv_len] = [{}, {}] or [batch * n_heads, "
            "q_len, kv_len] = [{}, {}, {}]",
            what, s.str(), n.q_len, n.kv_len, n.batch * n.n_heads, n.q_len, n.kv_len);
  return {n.batch, n.n_heads, n.q_len, n.kv_len};
}
Shape padding_shape(const Tensor& x, const Sizes& n, const char* what) {
  QKV_CHECK((x.shape() == (n.batched ? Shape{n.batch, n.kv_len} : Shape{n.kv_len})), kShape,
            "multi_head_attention: {} is {}, needs to be {}", what, x.shape().str(),
            n.batched ? Shape{n.batch, n.kv_len}.str() : Shape{n.kv_len}.str());
  return {n.batch, 1, 1, n.kv_len};
}
Shape widened(const Shape& s, int64_t extra) { return {s[0], s[1], s[2], s[3] + extra}; }
Shape as_rows(const Shape& s) { return {s[0] * s[1] * s[2], s[3]}; }

// From TRUE = hidden to TRUE = visible, and the extra keys are.
RulePtr mask_of(const Tensor& hidden, const Shape& shape, int64_t extra, const char* what) {
  QKV_CHECK(hidden.dtype() == DType::kI32, kDtype,
            "multi_head_attention: {} is {}, needs to be i32; numbers to add go into the bias", what,
            name(hidden.dtype()));
  const Tensor from = hidden.contiguous(), visible = Tensor::full(widened(shape, extra), DType::kI32, 1);
  const int64_t cols = shape[3];
  for (int64_t r = 0; r < as_rows(shape)[0]; ++r)
    std::transform(from.data<int32_t>() + r * cols, from.data<int32_t>() + (r + 1) * cols,
                   visible.data<int32_t>() + r * (cols + extra), [](int32_t x) { return x == 0; });
  return mask_tensor(visible);
}

RulePtr bias_of(const Var& bias, const Shape& shape, const Sizes& n) {
  const Shape to = widened(shape, n.extra);
  const trace::Span span("bias", trace::Kind::kOp);
  const Tensor wide = Tensor::zeros(as_rows(to), bias.dtype());
  wide.columns(0, n.kv_len).copy_from(bias.value().contiguous().reshape(as_rows(shape)));
  const Var b = Var::result(wide.reshape(to), bias.requires_grad(), {bias}, [=](const Tensor& dy) {
    bias.add_grad(dy.reshape(as_rows(to)).columns(0, n.kv_len).contiguous().reshape(bias.value().shape()));
  });
  return bias_tensor(b, n.batch, n.n_heads, n.q_len, n.all_keys());
}

std::vector<RulePtr> rules_of(const MultiHeadOptions& o, const Sizes& n) {
  std::vector<RulePtr> rules = o.rules;
  if (o.is_causal && n.extra == 0) rules.push_back(causal());
  if (o.is_causal && n.extra > 0)
    rules.push_back(any_of(
        {causal(), mask([first = n.kv_len](int64_t, int64_t, int64_t, int64_t j) { return j >= first; })}));
  if (o.attn_mask.defined())
    rules.push_back(mask_of(o.attn_mask, mask_shape(o.attn_mask, n, "attn_mask"), n.extra, "attn_mask"));
  if (o.key_padding_mask.defined())
    rules.push_back(mask_of(o.key_padding_mask, padding_shape(o.key_padding_mask, n, "key_padding_mask"),
                            n.extra, "key_padding_mask"));
  if (o.attn_bias.defined())
    rules.push_back(bias_of(o.attn_bias, mask_shape(o.attn_bias.value(), n, "attn_bias"), n));
  if (o.key_padding_bias.defined())
    rules.push_back(
        bias_of(o.key_padding_bias, padding_shape(o.key_padding_bias.value(), n, "key_padding_bias"), n));
  return rules;
}

// ---- checks ----

Sizes sizes_of(const Var& query, const Var& key, const Var& value, const MultiHeadWeights& w,
               const MultiHeadOptions& o) {
  const auto rank = [](const Var& x) { return x.defined() ? x.value().rank() : 0; };
  QKV_CHECK((rank(query) == 2 || rank(query) == 3) && rank(key) == rank(query) && rank(value) == rank(query),
            kShape,
            "multi_head_attention: query is {}, key {}, value {}: they need to be all of {}, or of [len, "
            "width]",
            shape_of(query), shape_of(key), shape_of(value),
            o.batch_first ? "[batch, len, width]" : "[len, batch, width]");
  QKV_CHECK(key.dtype() == query.dtype() && value.dtype() == query.dtype(), kDtype,
            "multi_head_attention: query is {}, key {}, value {}: one type is needed", name(query.dtype()),
            name(key.dtype()), name(value.dtype()));
  const bool batched = rank(query) == 3;
  const int of_batch = o.batch_first ? 0 : 1, of_length = batched ? 1 - of_batch : 0;
  Sizes n{.batch = batched ? query.size(of_batch) : 1,
          .q_len = query.size(of_length),
          .kv_len = key.size(of_length),
          .width = query.size(-1),
          .n_heads = o.n_heads,
          .extra = (w.bias_k ? 1 : 0) + (o.add_zero_attn ? 1 : 0),
          .batched = batched};
  QKV_CHECK(
      value.size(of_length) == n.kv_len &&
          (!batched || (key.size(of_batch) == n.batch && value.size(of_batch) == n.batch)),
      kShape,
      "multi_head_attention: query is {}, key {}, value {}: batch, and length of key and value, need to "
      "agree ({})",
      shape_of(query), shape_of(key), shape_of(value),
      o.batch_first ? "batch comes first" : "batch comes second; batch_first = true for the other way");
  QKV_CHECK(o.n_heads > 0 && n.width > 0 && n.width % o.n_heads == 0, kValue,
            "multi_head_attention: embed_dim ({}) is not a multiple of n_heads ({})", n.width, o.n_heads);
  QKV_CHECK(o.dropout_p >= 0 && o.dropout_p < 1, kValue,
            "multi_head_attention: dropout_p is {}, needs to be from 0 to below 1", o.dropout_p);
  QKV_CHECK(!(o.need_weights && o.probe), kValue,
            "multi_head_attention: need_weights asks for all rows, probe for some; one of the two");
  return n;
}

void check_parameter(const ParameterPtr& p, std::string_view what, const Shape& shape, DType dtype) {
  if (!p) return;
  QKV_CHECK(p->value().shape() == shape, kShape, "multi_head_attention: {} is {}, needs to be {}", what,
            p->value().shape().str(), shape.str());
  QKV_CHECK(p->value().dtype() == accumulator_dtype(dtype), kDtype,
            "multi_head_attention: {} is {}; with {} inputs parameters are {}", what,
            name(p->value().dtype()), name(dtype), name(accumulator_dtype(dtype)));
}

void check(const MultiHeadWeights& w, int64_t width, int64_t kdim, int64_t vdim, DType dtype) {
  const bool apart = w.q_proj_weight && w.k_proj_weight && w.v_proj_weight;
  const bool some = w.q_proj_weight || w.k_proj_weight || w.v_proj_weight;
  QKV_CHECK(w.in_proj_weight ? !some : apart, kValue,
            "multi_head_attention: needs either in_proj_weight, or q_, k_ and v_proj_weight");
  QKV_CHECK(w.out_proj_weight, kValue, "multi_head_attention: out_proj_weight is missing");
  QKV_CHECK(!w.bias_k == !w.bias_v, kValue, "multi_head_attention: bias_k and bias_v come together");
  QKV_CHECK(!w.in_proj_weight || (kdim == width && vdim == width), kShape,
            "multi_head_attention: keys of {} and values of {} columns beside queries of {} need q_, k_ and "
            "v_proj_weight in place of in_proj_weight",
            kdim, vdim, width);
  check_parameter(w.in_proj_weight, "in_proj_weight", {3 * width, width}, dtype);
  check_parameter(w.q_proj_weight, "q_proj_weight", {width, width}, dtype);
  check_parameter(w.k_proj_weight, "k_proj_weight", {width, kdim}, dtype);
  check_parameter(w.v_proj_weight, "v_proj_weight", {width, vdim}, dtype);
  check_parameter(w.in_proj_bias, "in_proj_bias", {3 * width}, dtype);
  check_parameter(w.bias_k, "bias_k", {1, 1, width}, dtype);
  check_parameter(w.bias_v, "bias_v", {1, 1, width}, dtype);
  check_parameter(w.out_proj_weight, "out_proj_weight", {width, width}, dtype);
  check_parameter(w.out_proj_bias, "out_proj_bias", {width}, dtype);
}

// ---- weights ----

// Rows of all (sequence, head, query) as one tensor.
Tensor weights_of(const Probe& probe, const Sizes& n, bool average) {
  const Tensor all = Tensor::zeros(
      average ? Shape{n.batch, n.q_len, n.all_keys()} : Shape{n.batch, n.n_heads, n.q_len, n.all_keys()},
      DType::kF32);
  const float share = average ? 1 / static_cast<float>(n.n_heads) : 1;
  for (const AttentionRow& row : probe.rows) {
    const int64_t map = average ? row.sequence : row.sequence * n.n_heads + row.head;
    float* to = all.data<float>() + (map * n.q_len + row.position) * n.all_keys();
    for (float weight : row.attn_weights) *to++ += share * weight;
  }
  if (n.batched) return all;
  return all.reshape(average ? Shape{n.q_len, n.all_keys()} : Shape{n.n_heads, n.q_len, n.all_keys()});
}

}  // namespace

MultiHeadWeights multi_head_weights(ParameterSet& set, const std::string& prefix,
                                    const MultiHeadWeightsConfig& c) {
  QKV_CHECK(c.embed_dim > 0 && c.kdim >= 0 && c.vdim >= 0, kValue,
            "multi_head_weights: embed_dim ({}) must be positive, kdim ({}) and vdim ({}) not negative",
            c.embed_dim, c.kdim, c.vdim);
  const int64_t e = c.embed_dim, kdim = c.kdim ? c.kdim : e, vdim = c.vdim ? c.vdim : e;
  MultiHeadWeights w;
  if (kdim == e && vdim == e) {
    w.in_proj_weight = set.xavier_uniform(prefix + ".in_proj_weight", {3 * e, e});
  } else {
    w.q_proj_weight = set.xavier_uniform(prefix + ".q_proj_weight", {e, e});
    w.k_proj_weight = set.xavier_uniform(prefix + ".k_proj_weight", {e, kdim});
    w.v_proj_weight = set.xavier_uniform(prefix + ".v_proj_weight", {e, vdim});
  }
  if (c.bias) w.in_proj_bias = set.constant(prefix + ".in_proj_bias", {3 * e}, 0);
  // Uniform in +-1 / sqrt(E), which is this much of Xavier's bound.
  w.out_proj_weight = set.xavier_uniform(prefix + ".out_proj.weight", {e, e}, 1 / std::sqrt(3.0));
  if (c.bias) w.out_proj_bias = set.constant(prefix + ".out_proj.bias", {e}, 0);
  if (c.add_bias_kv) {
    w.bias_k = set.normal(prefix + ".bias_k", {1, 1, e}, 1 / std::sqrt(static_cast<double>(e)));
    w.bias_v = set.normal(prefix + ".bias_v", {1, 1, e}, 1 / std::sqrt(static_cast<double>(e)));
  }
  return w;
}

MultiHeadResult multi_head_attention(const Var& query, const Var& key, const Var& value,
                                     const MultiHeadWeights& w, const MultiHeadOptions& o) {
  const Sizes n = sizes_of(query, key, value, w, o);
  check(w, n.width, key.size(-1), value.size(-1), query.dtype());

  // One of the three projections: rows of the stacked matrix, or a matrix of its own; biases are stacked.
  const auto projected = [&](const Var& x, const ParameterPtr& own, int64_t part) {
    const ParameterRows stacked{w.in_proj_weight, part * n.width, (part + 1) * n.width},
        bias{w.in_proj_bias, part * n.width, (part + 1) * n.width};
    return linear(to_rows(x, o.batch_first), own ? ParameterRows{own, 0, n.width} : stacked, bias);
  };
  const Var q = projected(query, w.q_proj_weight, 0),
            k = with_extra(projected(key, w.k_proj_weight, 1), w.bias_k, n, o.add_zero_attn),
            v = with_extra(projected(value, w.v_proj_weight, 2), w.bias_v, n, o.add_zero_attn);

  Probe all;
  AttentionOptions options{.heads = {.n_heads = n.n_heads, .d_k = n.width / n.n_heads},
                           .rules = rules_of(o, n),
                           .normalizer = o.normalizer,
                           .path = o.path,
                           .probe = o.need_weights ? &all : o.probe};
  if (o.dropout_p > 0)
    options.dropout = {.key = o.key, .threshold = kernels::Dropout::threshold_of(o.dropout_p)};
  const auto lengths = [&](int64_t length) {
    return Segments(std::vector<int64_t>(static_cast<size_t>(n.batch), length));
  };
  const Var heads =
      control_heads(attention(q, k, v, lengths(n.q_len), lengths(n.all_keys()), options), lengths(n.q_len),
                    n.n_heads, nullptr, o.probe ? o.probe->controls : nullptr, options.site, options.layer);
  return {.output = from_rows(linear(heads, w.out_proj_weight, w.out_proj_bias), n, o.batch_first),
          .attn_weights = o.need_weights ? weights_of(all, n, o.average_attn_weights) : Tensor()};
}

}  // namespace qkv
