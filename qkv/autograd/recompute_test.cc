#include "qkv/autograd/recompute.h"

#include <gtest/gtest.h>

#include "qkv/autograd/gradcheck.h"
#include "qkv/autograd/ops/elementwise.h"
#include "qkv/autograd/ops/linear.h"
#include "qkv/autograd/ops/norm.h"
#include "qkv/base/memory.h"
#include "qkv/base/philox.h"

namespace qkv {
namespace {

// What random numbers a piece drew last, as nn/pass.h counts them.
struct Keys {
  RandomKey key{.seed = 3};
  RandomKey next() {
    ++key.stream;
    return key;
  }
};

// Layers that all read x, their own and the same `memory`, twice each, as a decoder's do.
struct Stack {
  std::vector<ParameterPtr> weights;
  ParameterPtr gamma, beta;

  Stack(int64_t layers, int64_t d, DType dtype) {
    for (int64_t i = 0; i < layers; ++i)
      weights.push_back(
          std::make_shared<Parameter>("w", random_tensor({d, d}, 10 + static_cast<uint64_t>(i), dtype, 0.3)));
    gamma = std::make_shared<Parameter>("gamma", random_tensor({d}, 2, dtype));
    beta = std::make_shared<Parameter>("beta", random_tensor({d}, 3, dtype));
  }
  Var layer(size_t i, Keys& keys, const Var& x, const Var& memory) const {
    const Var seen = multiply(linear(memory, weights[i]), activate(memory, Activation::kGelu));
    const Var y = linear(layer_norm(x, gamma, beta, 1e-5), weights[i], nullptr, Activation::kGelu);
    return add_dropout(add(x, seen), y, 0.3, keys.next());
  }
  Var operator()(const Var& x, const Var& memory, bool again) const {
    Keys keys;
    Var y = x;
    for (size_t i = 0; i < weights.size(); ++i) {
      const auto f = [this, i](Keys& k, const Var& in, const Var& from) { return layer(i, k, in, from); };
      y = again ? recompute(keys, f, y, memory) : f(keys, y, memory);
    }
    return add_dropout(y, y, 0.5, keys.next());
  }
  std::vector<ParameterPtr> parameters() const {
    std::vector<ParameterPtr> all = weights;
    all.insert(all.end(), {gamma, beta});
    return all;
  }
};

// Values, then gradients of inputs and parameters.
std::vector<std::vector<double>> run(DType dtype, bool again) {
  const Stack stack(3, 16, accumulator_dtype(dtype));
  const Var x(random_tensor({40, 16}, 5, dtype), true), memory(random_tensor({40, 16}, 6, dtype), true);
  const Var source = scale(memory, 0.7);  // an operation whose gradient several pieces add to
  const Var y = stack(x, source, again);
  std::vector<std::vector<double>> out{y.value().values()};
  backward(y, random_tensor({40, 16}, 7, dtype));
  for (const Var& v : {x, memory}) out.push_back(v.grad().values());
  for (const ParameterPtr& p : stack.parameters()) out.push_back(p->grad().values());
  return out;
}

TEST(Recompute, GradientsAreThoseWithoutItToTheBit) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16})
    EXPECT_EQ(run(dtype, true), run(dtype, false)) << name(dtype);
}

TEST(Recompute, GradientsAreRight) {
  const Stack stack(2, 4, DType::kF64);
  EXPECT_EQ(gradcheck([&](const auto& v) { return stack(v[0], v[1], true); },
                      {random_tensor({3, 4}, 5), random_tensor({3, 4}, 6)}, stack.parameters()),
            "");
}

TEST(Recompute, RunsAgainInBackwardOnceAndFromAnEqualState) {
  const Var x(Tensor::from({2}, {1, 2}, DType::kF64), true);
  Keys keys;
  std::vector<uint32_t> drawn;
  const auto f = [&](Keys& k, const Var& in) {
    drawn.push_back(static_cast<uint32_t>(k.next().stream));
    return multiply(in, in);
  };
  const Var y = recompute(keys, f, recompute(keys, f, x));
  EXPECT_EQ(keys.key.stream, 2U);
  EXPECT_EQ(drawn, (std::vector<uint32_t>{1, 2}));
  backward(y);
  EXPECT_EQ(keys.key.stream, 2U);
  EXPECT_EQ(drawn, (std::vector<uint32_t>{1, 2, 2, 1}));
  EXPECT_EQ(x.grad().values(), (std::vector<double>{4, 32}));  // 4 x^3
}

TEST(Recompute, MayBeNested) {
  const Var x(Tensor::from({2}, {1, 2}, DType::kF64), true),
      other(Tensor::from({2}, {3, 5}, DType::kF64), true);
  Keys keys;
  int runs = 0;
  const auto inner = [&](Keys& k, const Var& in) {
    ++runs;
    return dropout(multiply(in, in), 1e-9, k.next());
  };
  const auto outer = [&](Keys& k, const Var& in, const Var& factor) {
    return multiply(recompute(k, inner, recompute(k, inner, in)), factor);
  };
  backward(recompute(keys, outer, x, other));
  EXPECT_EQ(runs, 6);
  EXPECT_EQ(x.grad().values(), (std::vector<double>{12, 160}));  // 4 x^3 other
  EXPECT_EQ(other.grad().values(), (std::vector<double>{1, 16}));
}

TEST(Recompute, TheSameInputTwiceOrTheResultItselfIsNoSpecialCase) {
  const Var x(Tensor::from({2}, {1, 2}, DType::kF64), true);
  Keys keys;
  const auto product = [](Keys&, const Var& a, const Var& b) { return multiply(a, b); };
  const auto identity = [](Keys&, const Var& in) { return in; };
  const Var y = scale(x, 3);
  backward(recompute(keys, identity, recompute(keys, product, y, y)));
  EXPECT_EQ(x.grad().values(), (std::vector<double>{18, 36}));  // 18 x
}

TEST(Recompute, AConstantPieceGivesNoGradientAndATapeIsWalkedWhereNothingRecords) {
  const Var constant(Tensor::from({1}, {2}, DType::kF64)), x(Tensor::from({1}, {3}, DType::kF64), true);
  Keys keys;
  const auto square = [](Keys&, const Var& in) { return multiply(in, in); };
  const Var y = multiply(recompute(keys, square, constant), recompute(keys, square, x));
  const NoGrad off;
  backward(y);
  EXPECT_EQ(x.grad().at({0}), 24);
  EXPECT_FALSE(grad_enabled());
  EXPECT_FALSE(recompute(keys, square, x).requires_grad());
}

TEST(Recompute, KeepsInputsAlone) {
  const auto kept = [](bool again) {
    const Stack stack(8, 64, DType::kF32);
    const Var x(random_tensor({512, 64}, 5, DType::kF32), true),
        memory(random_tensor({512, 64}, 6, DType::kF32), true);
    const int64_t before = memory_use().in_use;
    const Var y = stack(x, memory, again);
    const int64_t after = memory_use().in_use;
    reset_memory_peak();
    backward(y);
    return std::pair{after - before, memory_use().peak - before};
  };
  const auto [with, peak_with] = kept(true);
  const auto [without, peak_without] = kept(false);
  EXPECT_LT(with,
            11 * 5 * (512 * 64 * 4) / 4);  // results and inputs, in blocks that may be a quarter too large
  EXPECT_GT(without, 4 * with);
  EXPECT_LT(2 * peak_with, peak_without);
}

}  // namespace
}  // namespace qkv
