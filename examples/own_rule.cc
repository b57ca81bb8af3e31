// A mask, a bias and an edit with a trainable number, written outside the library, on the blocked path with
// gradients.

#include <cmath>
#include <cstdio>

#include "qkv/attention/attention.h"
#include "qkv/autograd/gradcheck.h"

using namespace qkv;

// s' = s * gain_h: a sharpness for each head, learnt.
class HeadGain : public EditFor<HeadGain> {
 public:
  explicit HeadGain(ParameterPtr gain) : gain_(std::move(gain)) {}
  bool passes_gradients() const override { return false; }
  bool backward_reads_scores() const override { return true; }  // s = s' / gain
  ParameterPtr parameter() const override { return gain_; }
  template <class A>
  void edit(const ScoreTile<A>& t) const noexcept {
    for (int64_t r = 0; r < t.rows; ++r)
      for (int64_t c = 0; c < t.cols; ++c) t.at(r, c) *= gain_->value().data<A>()[t.head];
  }
  template <class A>
  void edit_backward(const ScoreTile<A>& t, A* ds, A* gradient) const noexcept {
    const A gain = gain_->value().data<A>()[t.head];
    for (int64_t r = 0; r < t.rows; ++r)
      for (int64_t c = 0; c < t.cols; ++c) {
        *gradient += ds[r * t.stride + c] * t.at(r, c) / gain;
        ds[r * t.stride + c] *= gain;
      }
  }

 private:
  ParameterPtr gain_;  // [n_heads, 1]
};

int main() {
  const HeadSizes heads{.n_heads = 2, .d_k = 4};
  ParameterSet set(1, DType::kF64);
  const AttentionOptions options{
      .heads = heads,
      .rules = {mask([](int64_t, int64_t, int64_t i, int64_t j) { return j <= i && (i - j) % 3 != 2; }),
                bias([](int64_t, int64_t h, int64_t i, int64_t j) {
                  return -0.1 * static_cast<double>((h + 1) * (i - j));
                }),
                std::make_shared<HeadGain>(set.constant("gain", {heads.n_heads, 1}, 1.5))},
      .path = AttentionPath::kBlocked};
  const Segments text({70, 3});  // two sequences, back to back
  const auto f = [&](const std::vector<Var>& x) { return attention(x[0], x[1], x[2], text, text, options); };
  const Tensor q = random_tensor({73, 8}, 1), k = random_tensor({73, 8}, 2), v = random_tensor({73, 8}, 3);
  const std::string wrong = gradcheck(f, {q, k, v}, set.all());
  std::printf("%s\n", wrong.empty() ? "gradients agree with finite differences" : wrong.c_str());
  return wrong.empty() ? 0 : 1;
}
