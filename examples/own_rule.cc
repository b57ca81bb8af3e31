// Masks and biases as lambdas and an edit with a trainable number, written outside the library, on the
// blocked path with gradients. docs/adding/a-rule.md shows them.

#include <cmath>
#include <cstdio>

#include "qkv/attention/attention.h"
#include "qkv/autograd/gradcheck.h"

using namespace qkv;

// s' = s * gain_h: a sharpness for each head, learnt; never 0, since s = s' / gain.
class HeadGain : public EditFor<HeadGain> {
 public:
  explicit HeadGain(ParameterPtr gain) : gain_(std::move(gain)) {}
  bool passes_gradients() const override { return false; }
  ParameterPtr parameter() const override { return gain_; }
  template <class A>
  void edit(const ScoreTile<A>& t) const noexcept {
    const A gain = gain_->value().data<A>()[t.head];
    for (int64_t r = 0; r < t.rows; ++r)
      for (int64_t c = 0; c < t.cols; ++c) t.at(r, c) *= gain;
  }
  template <class A>
  void edit_backward(const ScoreTile<A>& t, A* ds, A* gradient) const noexcept {
    const A gain = gain_->value().data<A>()[t.head];
    for (int64_t r = 0; r < t.rows; ++r)
      for (int64_t c = 0; c < t.cols; ++c) {
        A& d = ds[r * t.stride + c];
        if (d != 0) *gradient += d * t.at(r, c) / gain;  // a hidden score may be NaN; its ds is 0
        d *= gain;
      }
  }

 private:
  ParameterPtr gain_;  // [n_heads, 1]
};

std::vector<RulePtr> own_rules(const ParameterPtr& gain) {
  return {distance_mask([](int64_t, int64_t distance) { return distance <= 0 && distance % 3 != -2; }),
          distance_bias([](int64_t head, int64_t distance) {
            return 0.1 * static_cast<double>((head + 1) * distance);
          }),
          mask([](auto batch, auto, auto i, auto j) { return batch == 0 || j % 5 != 4 || i == j; }),
          bias([](auto, auto head, auto i, auto j) { return head == 1 && i % 2 == j % 2 ? 0.5f : 0.0f; }),
          std::make_shared<HeadGain>(gain)};
}

int main() {
  const HeadSizes heads{.n_heads = 2, .d_k = 4};
  ParameterSet set(1, DType::kF64);
  const AttentionOptions options{.heads = heads,
                                 .rules = own_rules(set.constant("gain", {heads.n_heads, 1}, 1.5)),
                                 .path = AttentionPath::kBlocked};
  const Segments text({70, 3});  // two sequences, back to back
  const auto f = [&](const std::vector<Var>& x) { return attention(x[0], x[1], x[2], text, text, options); };
  const Tensor q = random_tensor({73, 8}, 1), k = random_tensor({73, 8}, 2), v = random_tensor({73, 8}, 3);
  const std::string wrong = gradcheck(f, {q, k, v}, set.all());
  std::printf("%s\n", wrong.empty() ? "gradients agree with finite differences" : wrong.c_str());
  return wrong.empty() ? 0 : 1;
}
