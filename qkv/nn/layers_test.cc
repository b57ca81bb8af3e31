// The small layers, each against what can be computed by hand: activation.h, norm.h, pass.h, feed_forward.h.

#include <gtest/gtest.h>

#include <cmath>

#include "qkv/autograd/gradcheck.h"
#include "qkv/base/testing.h"
#include "qkv/nn/activation.h"
#include "qkv/nn/feed_forward.h"
#include "qkv/nn/norm.h"
#include "qkv/nn/pass.h"

namespace qkv {
namespace {

using Values = std::vector<double>;

void give(const ParameterSet& set, const std::string& name, std::initializer_list<double> values) {
  const ParameterPtr p = set.find(name);
  ASSERT_NE(p, nullptr) << name;
  p->set_value(Tensor::from(p->value().shape(), values, set.dtype()));
}

void expect_near(const Tensor& got, const Values& expected, double tolerance) {
  const Values values = got.values();
  ASSERT_EQ(values.size(), expected.size());
  for (size_t i = 0; i < values.size(); ++i)
    EXPECT_NEAR(values[i], expected[i], tolerance) << "element " << i;
}

TEST(Activation, NamesAreThoseOfModelConfigs) {
  for (const char* known : {"relu", "gelu", "gelu_new", "swish", "tanh"})
    EXPECT_EQ(activation_name(activation_from_name(known)), known);
  EXPECT_EQ(activation_from_name("silu"), activation_from_name("swish"));
  EXPECT_NE(activation_from_name("gelu"), activation_from_name("gelu_new"));
  EXPECT_EQ(activation_name(Activation::kNone), "none");
  EXPECT_ERROR(kValue, "\"ReLU\" is not one of relu, gelu, gelu_new, swish, silu, tanh",
               activation_from_name("ReLU"));
  EXPECT_ERROR(kValue, R"(activation "\u001b[2J\nqkv: fine" is not)",
               activation_from_name("\x1b[2J\nqkv: fine"));
}

TEST(Pass, DropsOnlyWhileItTrains) {
  EXPECT_EQ(Pass::running(DType::kF32).rate(0.3), 0);
  EXPECT_EQ(Pass::training(DType::kF32, 1, 2).rate(0.3), 0.3);
  EXPECT_EQ(Pass::running(DType::kBF16).dtype(), DType::kBF16);
}

// The masks that a pass's dropout sites draw, one after the other.
std::vector<Values> masks(Pass pass, int sites) {
  std::vector<Values> out;
  for (int i = 0; i < sites; ++i)
    out.push_back(dropout(Var(Tensor::full({1, 64}, DType::kF32, 1)), pass.rate(0.5), pass.next_key())
                      .value()
                      .values());
  return out;
}

TEST(Pass, MasksDependOnSeedStepAndSiteAlone) {
  const auto a = masks(Pass::training(DType::kF32, 1, 2), 3);
  EXPECT_EQ(masks(Pass::training(DType::kF32, 1, 2), 3), a);
  EXPECT_NE(a[0], a[1]);
  EXPECT_NE(a[1], a[2]);
  EXPECT_NE(masks(Pass::training(DType::kF32, 1, 3), 1)[0], a[0]);
  EXPECT_NE(masks(Pass::training(DType::kF32, 2, 2), 1)[0], a[0]);
}

// (1, 2, 6): mean 3, variance 14/3. (-1, -1, -1) has variance 0 and gives the bias alone.
TEST(LayerNorm, ByHand) {
  ParameterSet set(1, DType::kF64);
  const LayerNorm norm(set, "norm", 3, 0.5);
  EXPECT_EQ(set.find("norm.weight")->value().values(), Values(3, 1));
  EXPECT_EQ(set.find("norm.bias")->value().values(), Values(3, 0));
  give(set, "norm.weight", {1, 2, -1});
  give(set, "norm.bias", {0, 10, 1});
  const Var x(Tensor::from({2, 3}, {1, 2, 6, -1, -1, -1}, DType::kF64));
  const double s = std::sqrt(14.0 / 3 + 0.5);
  expect_near(norm(x).value(), {-2 / s, 10 - 2 / s, 1 - 3 / s, 0, 10, 1}, 1e-14);
}

TEST(LayerNorm, ForgetsShiftAndScale) {
  ParameterSet set(1);
  const LayerNorm norm(set, "norm", 40, 0);
  const Tensor x = random_tensor({5, 40}, 1, DType::kF32), y = x.clone();
  for (int64_t i = 0; i < y.numel(); ++i) y.data<float>()[i] = 4 * y.data<float>()[i] - 32;
  const Values a = norm(Var(x)).value().values();
  expect_near(norm(Var(y)).value(), a, 2e-5);
  for (int64_t r = 0; r < 5; ++r) {
    double sum = 0, squares = 0;
    for (int64_t j = 0; j < 40; ++j) sum += a[r * 40 + j], squares += a[r * 40 + j] * a[r * 40 + j];
    EXPECT_NEAR(sum / 40, 0, 1e-6);
    EXPECT_NEAR(squares / 40, 1, 1e-5);
  }
}

// (3, 4, 0, 0): mean of squares 25/4.
TEST(RmsNorm, ByHand) {
  ParameterSet set(1, DType::kF64);
  const RmsNorm norm(set, "norm", 4, 0.75);
  EXPECT_EQ(set.all().size(), 1u) << "no bias";
  give(set, "norm.weight", {1, 2, 3, 4});
  const double s = std::sqrt(25.0 / 4 + 0.75);
  expect_near(norm(Var(Tensor::from({1, 4}, {3, 4, 0, 0}, DType::kF64))).value(), {3 / s, 8 / s, 0, 0},
              1e-14);
}

// d_model 2, d_ff 3. For x = (1, 2): W1 x + b1 = (1 + 4, -2 + 1, 1 - 1) = (5, -1, 0), relu (5, 0, 0),
// W2 h + b2 = (5 + 0.5, -10 - 1). For x = (-1, 0): (-1, 1, -2) -> (0, 1, 0) -> (2 + 0.5, 3 - 1).
TEST(FeedForward, ByHand) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    ParameterSet set(1, accumulator_dtype(dtype));
    const FeedForward ffn(set, "fc1", "fc2", 2, 3, Activation::kRelu, 0.9);
    EXPECT_EQ(set.find("fc1.weight")->value().shape(), (Shape{3, 2}));
    EXPECT_EQ(set.find("fc2.weight")->value().shape(), (Shape{2, 3}));
    give(set, "fc1.weight", {1, 2, 0, -1, 1, 0});
    give(set, "fc1.bias", {0, 1, -1});
    give(set, "fc2.weight", {1, 2, 3, -2, 3, 4});
    give(set, "fc2.bias", {0.5, -1});
    Pass pass = Pass::running(dtype);
    const Var y = ffn(pass, Var(Tensor::from({2, 2}, {1, 2, -1, 0}, dtype)));
    EXPECT_EQ(y.dtype(), dtype);
    EXPECT_EQ(y.value().values(), (Values{5.5, -11, 2.5, 2}));
  }
}

// fc1 makes 256 ones, fc2 adds them up: each hidden unit of a row is dropped, or counts 1 / (1 - p) = 4
// times.
TEST(FeedForward, DropsHiddenUnitsWhileItTrains) {
  ParameterSet set(1);
  const FeedForward ffn(set, "fc1", "fc2", 1, 256, Activation::kRelu, 0.75);
  set.find("fc1.weight")->set_value(Tensor::full({256, 1}, DType::kF32, 1));
  set.find("fc2.weight")->set_value(Tensor::full({1, 256}, DType::kF32, 1));
  const Var x(Tensor::full({100, 1}, DType::kF32, 1));
  Pass pass = Pass::training(DType::kF32, 5, 1);
  const Values first = ffn(pass, x).value().values(), second = ffn(pass, x).value().values();
  double sum = 0;
  for (double y : first) {
    EXPECT_EQ(std::fmod(y, 4), 0);
    sum += y / 100;
  }
  EXPECT_NEAR(sum, 256, 15);  // five standard errors of 4 sqrt(256 * 100 * p (1 - p)) / 100
  EXPECT_NE(first, second) << "each use draws its own mask";
  Pass running = Pass::running(DType::kF32);
  EXPECT_EQ(ffn(running, x).value().values(), Values(100, 256));
}

TEST(FeedForward, GradientsAreRight) {
  for (Activation f : {Activation::kRelu, Activation::kGelu, Activation::kSilu}) {
    ParameterSet set(1, DType::kF64);
    const FeedForward ffn(set, "fc1", "fc2", 5, 7, f, 0.3);
    EXPECT_EQ(gradcheck(
                  [&](const auto& v) {
                    Pass pass = Pass::training(DType::kF64, 1, 1);
                    return ffn(pass, v[0]);
                  },
                  {random_tensor({4, 5}, 2)}, set.all()),
              "");
  }
}

}  // namespace
}  // namespace qkv
