#include "qkv/attention/sdpa.h"

#include <cmath>

#include "qkv/base/error.h"
#include "qkv/base/trace.h"

namespace qkv {
namespace {

// [batch, heads, length, width] as rows [batch * length, heads * width]; and back.
Tensor rows_of(const Tensor& x) {
  return x.transpose(1, 2).contiguous().reshape({x.size(0) * x.size(2), x.size(1) * x.size(3)});
}
Tensor heads_of(const Tensor& rows, int64_t batch, int64_t length, int64_t heads) {
  return rows.contiguous().reshape({batch, length, heads, rows.size(1) / heads}).transpose(1, 2);
}
// The length is given: a batch of 0 has no rows to count it by.
Var split_heads(const Var& rows, int64_t batch, int64_t length, int64_t n_heads) {
  const trace::Span span("split_heads", trace::Kind::kOp);
  return Var::result(heads_of(rows.value(), batch, length, n_heads), rows.requires_grad(), {rows},
                     [=](const Tensor& dy) { rows.add_grad(rows_of(dy)); });
}
// PyTorch's broadcasting: missing axes come first.
Tensor with_four_axes(const Tensor& x, const char* what) {
  QKV_CHECK(x.rank() <= 4, kShape, "{}: has {} axes, at most [batch, n_heads, q_len, kv_len]", what,
            x.rank());
  std::vector<int64_t> sizes(static_cast<size_t>(4 - x.rank()), 1);
  sizes.insert(sizes.end(), x.shape().sizes().begin(), x.shape().sizes().end());
  return x.rank() == 4 ? x : x.contiguous().reshape(Shape{std::span<const int64_t>(sizes)});
}
Var with_four_axes(const Var& x) {
  const trace::Span span("with_four_axes", trace::Kind::kOp);
  const Shape before = x.value().shape();
  return Var::result(with_four_axes(x.value(), "attn_bias"), x.requires_grad(), {x},
                     [=](const Tensor& dy) { x.add_grad(dy.contiguous().reshape(before)); });
}

void check_broadcasts(const Tensor& x, const Shape& to, const char* what) {
  for (int a = 0; a < 4; ++a)
    QKV_CHECK(x.size(a) == 1 || x.size(a) == to[a], kShape, "{}: {} does not broadcast to {}", what,
              x.shape().str(), to.str());
}

}  // namespace

Var split_heads(const Var& rows, int64_t batch, int64_t n_heads) {
  QKV_CHECK(rows.defined() && rows.value().rank() == 2 && batch >= 0 && n_heads > 0 &&
                rows.size(1) % n_heads == 0 && (batch > 0 ? rows.size(0) % batch == 0 : rows.size(0) == 0),
            kShape, "split_heads: {} is not [batch ({}) * length, n_heads ({}) * width]",
            rows.defined() ? rows.value().shape().str() : "nothing", batch, n_heads);
  return split_heads(rows, batch, batch > 0 ? rows.size(0) / batch : 0, n_heads);
}

Var merge_heads(const Var& heads) {
  const trace::Span span("merge_heads", trace::Kind::kOp);
  QKV_CHECK(heads.defined() && heads.value().rank() == 4 && heads.size(1) > 0, kShape,
            "merge_heads: needs [batch, n_heads, length, width] with n_heads > 0, got {}",
            heads.defined() ? heads.value().shape().str() : "nothing");
  const int64_t batch = heads.size(0), n_heads = heads.size(1), length = heads.size(2);
  return Var::result(rows_of(heads.value()), heads.requires_grad(), {heads},
                     [=](const Tensor& dy) { heads.add_grad(heads_of(dy, batch, length, n_heads)); });
}

Var scaled_dot_product_attention(const Var& query, const Var& key, const Var& value, const SdpaOptions& o) {
  for (const Var* x : {&query, &key, &value})
    QKV_CHECK(x->defined() && x->value().rank() == 4, kShape,
              "scaled_dot_product_attention: {} needs [batch, heads, length, width], got {}",
              x == &query ? "query"
              : x == &key ? "key"
                          : "value",
              x->defined() ? x->value().shape().str() : "nothing");
  const int64_t batch = query.size(0), n_heads = query.size(1), q_len = query.size(2), kv_heads = key.size(1),
                kv_len = key.size(2);
  QKV_CHECK(
      key.size(0) == batch && value.size(0) == batch && value.size(1) == kv_heads &&
          value.size(2) == kv_len && key.size(3) == query.size(3),
      kShape,
      "scaled_dot_product_attention: query {}, key {}, value {}: batch, and d_k, heads and length of key and "
      "value need to agree",
      query.value().shape().str(), key.value().shape().str(), value.value().shape().str());
  QKV_CHECK(n_heads > 0 && kv_heads > 0, kShape,
            "scaled_dot_product_attention: {} query heads and {} key heads, needs at least one of each",
            n_heads, kv_heads);
  QKV_CHECK(o.enable_gqa || n_heads == kv_heads, kValue,
            "scaled_dot_product_attention: {} query heads and {} key heads; set enable_gqa to share them",
            n_heads, kv_heads);
  QKV_CHECK(
      !(o.attn_mask.defined() && o.attn_bias.defined()), kValue,
      "scaled_dot_product_attention: attn_mask and attn_bias are both given; add -inf to the bias instead");
  QKV_CHECK(
      !(o.is_causal || o.is_causal_lower_right) || !(o.attn_mask.defined() || o.attn_bias.defined()), kValue,
      "scaled_dot_product_attention: is_causal goes with no mask; put causal() into rules to have both");
  QKV_CHECK(!(o.is_causal && o.is_causal_lower_right), kValue,
            "scaled_dot_product_attention: is_causal aligns the triangle at the top left, "
            "is_causal_lower_right at the "
            "lower right; one of the two");
  QKV_CHECK(o.dropout_p >= 0 && o.dropout_p < 1, kValue,
            "scaled_dot_product_attention: dropout_p is {}, needs to be from 0 to below 1", o.dropout_p);
  QKV_CHECK(!o.scale || !o.score, kValue,
            "scaled_dot_product_attention: a scale is the usual score's; give it to "
            "`score` itself");
  // 0 would mean the usual scale below.
  QKV_CHECK(
      !o.scale || *o.scale > 0, kValue,
      "scaled_dot_product_attention: scale is {}, needs to be positive; score = uniform() looks at no score, "
      "a negative scale is a positive one of -query",
      *o.scale);

  AttentionOptions options{
      .heads = {.n_heads = n_heads, .n_kv_heads = kv_heads, .d_k = query.size(3), .d_v = value.size(3)},
      .score = o.score ? o.score : scaled_dot(o.scale.value_or(0)),
      .rules = o.rules,
      .normalizer = o.normalizer,
      .path = o.path,
      .probe = o.probe};
  if (o.dropout_p > 0)
    options.dropout = {.key = o.key, .threshold = kernels::Dropout::threshold_of(o.dropout_p)};
  const int64_t past = o.is_causal_lower_right ? kv_len - q_len : 0;
  QKV_CHECK(past >= 0, kShape,
            "scaled_dot_product_attention: {} queries and {} keys have no lower right triangle", q_len,
            kv_len);
  if (o.is_causal || o.is_causal_lower_right) options.rules.push_back(causal());
  const Shape scores{batch, n_heads, q_len, kv_len};
  if (o.attn_mask.defined()) {
    const Tensor mask = with_four_axes(o.attn_mask, "attn_mask");
    check_broadcasts(mask, scores, "attn_mask");
    options.rules.push_back(mask_tensor(mask));
  }
  if (o.attn_bias.defined())
    options.rules.push_back(bias_tensor(with_four_axes(o.attn_bias), batch, n_heads, q_len, kv_len));

  const std::vector<int64_t> q_lengths(static_cast<size_t>(batch), q_len),
      kv_lengths(static_cast<size_t>(batch), kv_len), pasts(static_cast<size_t>(batch), past);
  return split_heads(attention(merge_heads(query), merge_heads(key), merge_heads(value),
                               Segments(q_lengths, pasts), Segments(kv_lengths), options),
                     batch, q_len, n_heads);
}

}  // namespace qkv
