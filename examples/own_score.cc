// A score with trainable numbers and its gradient, written outside the library, on the blocked path.
// docs/adding/a-score.md shows it.

#include <cstdio>

#include "qkv/attention/attention.h"
#include "qkv/autograd/gradcheck.h"
#include "qkv/autograd/ops/elementwise.h"
#include "qkv/tensor/matmul.h"

using namespace qkv;

// score = sum_d w_hd q_d k_d: which features count, learnt for each head. Queries are weighted once and then
// meet keys in dot products, so only what is new needs a backward pass: a weight for every row, whose
// gradient is the sum over the rows.
class WeightedDot : public Score {
 public:
  explicit WeightedDot(ParameterPtr weight) : weight_(std::move(weight)) {}
  std::string_view name() const override { return "weighted_dot"; }
  Pairing pairing(const HeadSizes& heads) const override {
    return {.kind = Pairing::Kind::kDot, .width = heads.d_k};
  }
  std::vector<ParameterPtr> parameters() const override { return {weight_}; }
  Var prepare_queries(const Var& q, const HeadSizes& /*heads*/) const override {
    const Tensor w = weight_->value().reshape({1, q.size(1)});
    const Tensor rows = Tensor::empty(q.value().shape(), q.dtype());
    for (int64_t r = 0; r < rows.size(0); ++r) rows.rows(r, r + 1).copy_from(w);
    const Var of_every_row = Var::result(rows, true, {}, [weight = weight_](const Tensor& dy) {
      add_column_sum(dy.contiguous(), weight->grad().reshape({dy.size(1)}));
    });
    return multiply(q, of_every_row);
  }

 private:
  ParameterPtr weight_;  // [n_heads, d_k]
};

int main() {
  const HeadSizes heads{.n_heads = 2, .d_k = 4};
  ParameterSet set(1, DType::kF64);
  const AttentionOptions options{
      .heads = heads,
      .score = std::make_shared<WeightedDot>(set.normal("weight", {heads.n_heads, heads.d_k}, 1)),
      .rules = {causal()},
      .path = AttentionPath::kBlocked};
  const Segments text({70, 3});  // two sequences, back to back
  const auto f = [&](const std::vector<Var>& x) { return attention(x[0], x[1], x[2], text, text, options); };
  const Tensor q = random_tensor({73, 8}, 1), k = random_tensor({73, 8}, 2), v = random_tensor({73, 8}, 3);
  const std::string wrong = gradcheck(f, {q, k, v}, set.all());
  std::printf("%s\n", wrong.empty() ? "gradients agree with finite differences" : wrong.c_str());
  return wrong.empty() ? 0 : 1;
}
