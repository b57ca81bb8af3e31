#include "qkv/attention/relative.h"

#include <cmath>

#include "qkv/autograd/ops/elementwise.h"
#include "qkv/autograd/ops/linear.h"

namespace qkv {

namespace {

ParameterPtr shaw_rows(ParameterSet& set, const std::string& name, int64_t max_distance, int64_t width) {
  QKV_CHECK(max_distance >= 1, kValue, "{}: max_distance is {}, needs to be positive", name, max_distance);
  return set.xavier_uniform(name, {2 * max_distance + 1, width});
}

}  // namespace

ShawRelativeKeys::ShawRelativeKeys(ParameterSet& set, const std::string& prefix, const HeadSizes& heads,
                                   int64_t max_distance)
    : rows_(shaw_rows(set, prefix + ".relative_keys", max_distance, heads.d_k)),
      max_distance_(max_distance) {}

RelativeKeys ShawRelativeKeys::operator()(DType dtype) const {
  return {.rows = value_of(rows_, dtype), .zero = max_distance_, .queries = {}};
}

ShawRelativeValues::ShawRelativeValues(ParameterSet& set, const std::string& prefix, const HeadSizes& heads,
                                       int64_t max_distance)
    : rows_(shaw_rows(set, prefix + ".relative_values", max_distance, heads.value_width())),
      max_distance_(max_distance) {}

RelativeValues ShawRelativeValues::operator()(DType dtype) const {
  return {.rows = value_of(rows_, dtype), .zero = max_distance_};
}

TransformerXlPositions::TransformerXlPositions(ParameterSet& set, const std::string& prefix,
                                               const HeadSizes& heads, int64_t d_model)
    : wr_(set.xavier_uniform(prefix + ".r_proj.weight", {heads.n_heads * heads.d_k, d_model})),
      u_(set.constant(prefix + ".u", {heads.n_heads * heads.d_k}, 0)),
      v_(set.constant(prefix + ".v", {heads.n_heads * heads.d_k}, 0)),
      d_model_(d_model) {
  QKV_CHECK(d_model % 2 == 0, kValue, "Transformer-XL positions: d_model is {}, needs to be even", d_model);
}

Var TransformerXlPositions::content_queries(const Var& q) const { return add_bias(q, u_); }

RelativeKeys TransformerXlPositions::operator()(const Var& q, int64_t kv_len) const {
  // Row m is of distance j - i = m - zero, and the paper's R counts i - j: sines first, then cosines.
  const int64_t zero = std::max<int64_t>(0, kv_len - 1), n = 2 * zero + 1, half = d_model_ / 2;
  std::vector<double> sinusoids;
  for (int64_t m = 0; m < n; ++m)
    for (int64_t f = 0; f < d_model_; ++f) {
      const double angle =
          static_cast<double>(zero - m) *
          std::pow(10000.0, -2.0 * static_cast<double>(f % half) / static_cast<double>(d_model_));
      sinusoids.push_back(f < half ? std::sin(angle) : std::cos(angle));
    }
  return {.rows = linear(Var(Tensor::from({n, d_model_}, sinusoids, q.dtype())), wr_),
          .zero = zero,
          .queries = add_bias(q, v_)};
}

}  // namespace qkv
