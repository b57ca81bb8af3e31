#include "qkv/nn/parameter_set.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "qkv/base/testing.h"
#include "qkv/nn/linear.h"

namespace qkv {
namespace {

using Values = std::vector<double>;

struct Moments {
  double mean = 0, variance = 0, fourth = 0, smallest = 0, largest = 0;
};
Moments moments(const Values& x) {
  Moments m{.smallest = *std::min_element(x.begin(), x.end()),
            .largest = *std::max_element(x.begin(), x.end())};
  const double n = static_cast<double>(x.size());
  for (double v : x) m.mean += v / n;
  for (double v : x) m.variance += (v - m.mean) * (v - m.mean) / n;
  for (double v : x) m.fourth += std::pow(v - m.mean, 4) / n;
  return m;
}

double correlation(const Values& x, const Values& y) {
  const Moments a = moments(x), b = moments(y);
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += (x[i] - a.mean) * (y[i] - b.mean);
  return sum / static_cast<double>(x.size()) / std::sqrt(a.variance * b.variance);
}

// Uniform in +-b has mean 0, variance b^2 / 3 and fourth moment b^4 / 5. n = 60,000 values: the standard
// errors are 0.4 %, 0.4 % and 0.5 % of b, the variance and the fourth moment; the bounds here are five of
// them.
TEST(ParameterSet, XavierFillsItsBoundEvenly) {
  ParameterSet set(1);
  const Values x = set.xavier_uniform("w", {200, 300})->value().values();
  const double b = std::sqrt(6.0 / (200 + 300));
  const Moments m = moments(x);
  EXPECT_LE(m.largest, b * (1 + 1e-7));  // rounded to f32
  EXPECT_GE(m.smallest, -b * (1 + 1e-7));
  EXPECT_GT(m.largest, 0.999 * b);
  EXPECT_LT(m.smallest, -0.999 * b);
  EXPECT_NEAR(m.mean / b, 0, 0.012);
  EXPECT_NEAR(m.variance / (b * b / 3), 1, 0.02);
  EXPECT_NEAR(m.fourth / std::pow(b, 4), 0.2, 0.005);
  EXPECT_NEAR(correlation(Values(x.begin(), x.end() - 1), Values(x.begin() + 1, x.end())), 0, 0.021);
}

// Of a wide matrix and a tall one, whose sum of sides is the same.
TEST(ParameterSet, XaviersBoundIsOfBothSides) {
  ParameterSet set(1);
  for (const Shape& shape : {Shape{10, 590}, Shape{590, 10}, Shape{300, 300}}) {
    const Moments m = moments(set.xavier_uniform(shape.str(), shape)->value().values());
    EXPECT_NEAR(std::max(m.largest, -m.smallest), 0.1, 0.001) << shape.str();
  }
}

TEST(ParameterSet, AGainWidensXaviersBound) {
  ParameterSet set(1), half(1);
  const Values x = set.xavier_uniform("w", {20, 30})->value().values();
  Values y = half.xavier_uniform("w", {20, 30}, 0.5)->value().values();
  for (double& v : y) v *= 2;
  EXPECT_EQ(x, y);
}

// A normal's fourth moment is 3 sigma^4; standard errors of 60,000 values as above, here up to 1.6 %.
TEST(ParameterSet, NormalsHaveTheirDeviation) {
  ParameterSet set(1);
  const Moments m = moments(set.normal("e", {600, 100}, 0.02)->value().values());
  EXPECT_NEAR(m.mean / 0.02, 0, 0.021);
  EXPECT_NEAR(m.variance / (0.02 * 0.02), 1, 0.03);
  EXPECT_NEAR(m.fourth / std::pow(0.02, 4), 3, 0.25);
}

TEST(ParameterSet, StartingValuesAreAFunctionOfSeedAndNameAlone) {
  ParameterSet a(7), b(7), c(8);
  const Values first = a.xavier_uniform("layers.0.weight", {20, 30})->value().values();
  const Values second = a.normal("layers.1.weight", {20, 30}, 1)->value().values();
  b.constant("a new bias", {3}, 0);
  EXPECT_EQ(b.normal("layers.1.weight", {20, 30}, 1)->value().values(), second);
  b.xavier_uniform("a new layer", {5, 5});
  EXPECT_EQ(b.xavier_uniform("layers.0.weight", {20, 30})->value().values(), first);

  EXPECT_NEAR(correlation(first, c.xavier_uniform("layers.0.weight", {20, 30})->value().values()), 0, 0.2);
  EXPECT_NEAR(correlation(first, c.xavier_uniform("layers.2.weight", {20, 30})->value().values()), 0, 0.2);
  EXPECT_NEAR(correlation(first, a.xavier_uniform("layers.0.weighu", {20, 30})->value().values()), 0, 0.2);

  // A model for gradient checks starts where the one it stands for starts.
  ParameterSet wide(7, DType::kF64);
  const ParameterPtr w = wide.xavier_uniform("layers.0.weight", {20, 30});
  EXPECT_EQ(w->value().dtype(), DType::kF64);
  EXPECT_EQ(w->value().to(DType::kF32).values(), first);
}

// The value that seed 1 gave when this was written: a checkpoint's seed has to mean the same weights
// tomorrow.
TEST(ParameterSet, ASeedMeansTheSameWeightsForEver) {
  ParameterSet set(1, DType::kF64);
  const Values x = set.xavier_uniform("model.encoder.layers.0.fc1.weight", {3, 3})->value().values();
  EXPECT_EQ(x[0], -0.88141412308862654);
  EXPECT_EQ(x[8], 0.31607316829342125);
}

TEST(ParameterSet, KeepsItsParametersInOrderUnderTheirNames) {
  ParameterSet set(1);
  const ParameterPtr w = set.xavier_uniform("w", {4, 5}), e = set.normal("e", {7, 2}, 1);
  const ParameterPtr b = set.constant("b", {5}, -1.5);
  const auto own = set.add(std::make_shared<Parameter>("own", Tensor::zeros({2}, DType::kF32)));
  EXPECT_EQ(set.all(), (std::vector<ParameterPtr>{w, e, b, own}));
  EXPECT_EQ(set.find("e"), e);
  EXPECT_EQ(set.find("x"), nullptr);
  EXPECT_EQ(set.numel(), 20 + 14 + 5 + 2);
  EXPECT_EQ(b->value().values(), Values(5, -1.5));
  EXPECT_TRUE(w->decays() && e->decays()) << "weight decay is for matrices and tables";
  EXPECT_FALSE(b->decays()) << "and not for biases and norms";
}

TEST(ParameterSet, RefusesASecondOfTheSameNameAndXavierOfAVector) {
  ParameterSet set(1);
  set.constant("b", {5}, 0);
  EXPECT_ERROR(kInternal, "parameter b is made twice", set.normal("b", {5, 2}, 1));
  EXPECT_ERROR(kInternal, "parameter b is made twice",
               set.add(std::make_shared<Parameter>("b", Tensor::zeros({2}, DType::kF32))));
  EXPECT_EQ(set.all().size(), 1u);
  EXPECT_ERROR(kShape, "v: Xavier initialisation is for matrices, got [5]", set.xavier_uniform("v", {5}));
}

TEST(ParameterSet, OfAModelThatOnlyRunsKeepsPackedWeightsAndNotTheirValues) {
  const Tensor x = Tensor::from({2, 3}, {1, -2, 3, 0.5, 0, 4}, DType::kF32);
  for (bool int8 : {false, true}) {
    ParameterSet trains(1), runs({1, Precision(DType::kF32, int8)});
    const Linear a(trains, "l", 3, 5), b(runs, "l", 3, 5);
    if (int8) trains.run_in_int8();
    EXPECT_EQ(a(Var(x)).value().values(), b(Var(x)).value().values()) << int8;
    EXPECT_EQ(runs.numel(), 20);
    const ParameterPtr w = runs.find("l.weight");
    EXPECT_TRUE(w->only_multiplies());
    EXPECT_FALSE(w->trainable());
    EXPECT_ERROR(kUnsupported, "l.weight: was packed for running, and its value is gone", w->value());
    EXPECT_ERROR(kUnsupported, "l.weight", b(Var(x.to(DType::kBF16))));
    EXPECT_EQ(runs.find("l.bias")->value().values(), Values(5, 0));
  }
}

TEST(ParameterSet, TakesSavedValuesFromItsReader) {
  std::string asked;
  ParameterSet set(ParameterReader([&](const std::string& name, const Shape& shape) {
    asked += name + shape.str() + " ";
    return Tensor::full(name == "short" ? Shape{1} : shape, DType::kF32, 3);
  }));
  EXPECT_EQ(set.xavier_uniform("w", {2, 1})->value().values(), Values(2, 3));
  EXPECT_EQ(set.normal("e", {1, 2}, 1)->value().values(), Values(2, 3));
  EXPECT_EQ(set.constant("b", {2}, 0)->value().values(), Values(2, 3)) << "biases too are what was saved";
  EXPECT_EQ(asked, "w[2, 1] e[1, 2] b[2] ");
  EXPECT_ERROR(kInternal, "parameter short: read as [1], not [2]", set.constant("short", {2}, 0));
}

// Products see one matrix; files and optimizers the parameters that they know.
TEST(ParameterStack, PartsAreRowsOfTheWhole) {
  ParameterSet set(7), apart(7);
  const ParameterPtr a = set.xavier_uniform("a", {2, 3}), b = set.xavier_uniform("b", {1, 3});
  const ParameterPtr whole = set.for_products({a, b});
  EXPECT_EQ(set.all(), (std::vector<ParameterPtr>{a, b}));
  EXPECT_EQ(a->value().values(), apart.xavier_uniform("a", {2, 3})->value().values());
  EXPECT_EQ(whole->value().rows(2, 3).values(), b->value().values());

  b->set_value(Tensor::from({1, 3}, {7, 8, 9}));
  EXPECT_EQ(whole->value().rows(2, 3).values(), (std::vector<double>{7, 8, 9}));
  EXPECT_FALSE(a->has_grad());
  whole->grad().fill(5);
  EXPECT_TRUE(a->has_grad());
  a->zero_grad();
  EXPECT_EQ(whole->grad().values(), (std::vector<double>{0, 0, 0, 0, 0, 0, 5, 5, 5}));
}

TEST(ParameterGradient, TheFirstProductIsStoredAndTheNextIsAdded) {
  ParameterSet set(7);
  const ParameterPtr w = set.xavier_uniform("w", {2, 3});
  const Tensor dy = Tensor::from({1, 2}, {1, 2}), x = Tensor::from({1, 3}, {1, 10, 100});
  const std::vector<double> once = {1, 10, 100, 2, 20, 200};
  w->add_linear_grads(dy, x, nullptr);
  EXPECT_EQ(w->grad().values(), once);
  w->add_linear_grads(dy, x, nullptr);
  EXPECT_EQ(w->grad().values(), (std::vector<double>{2, 20, 200, 4, 40, 400}));
  w->zero_grad();
  w->add_linear_grads(dy, x, nullptr);
  EXPECT_EQ(w->grad().values(), once);
  w->zero_grad();
  EXPECT_EQ(w->grad().values(), (std::vector<double>(6, 0)));
  w->grad().fill(1);  // somebody adds first
  w->add_linear_grads(dy, x, nullptr);
  EXPECT_EQ(w->grad().values(), (std::vector<double>{2, 11, 101, 3, 21, 201}));
}

// A part set to zero by itself, the other one as it was: as where optimizers share a model.
TEST(ParameterStack, GradientsAreZeroPartByPart) {
  ParameterSet set(7);
  const ParameterPtr a = set.xavier_uniform("a", {2, 3}), b = set.xavier_uniform("b", {1, 3});
  const ParameterPtr whole = set.for_products({a, b});
  const Tensor dy = Tensor::from({1, 3}, {1, 2, 3}), x = Tensor::from({1, 3}, {1, 10, 100});
  whole->add_linear_grads(dy, x, nullptr);
  EXPECT_EQ(a->grad().values(), (std::vector<double>{1, 10, 100, 2, 20, 200}));
  a->zero_grad();
  whole->add_linear_grads(dy, x, nullptr);
  EXPECT_EQ(a->grad().values(), (std::vector<double>{1, 10, 100, 2, 20, 200}));
  EXPECT_EQ(b->grad().values(), (std::vector<double>{6, 60, 600}));
  a->zero_grad();
  b->zero_grad();
  whole->add_linear_grads(dy, x, nullptr);
  EXPECT_EQ(whole->grad().values(), (std::vector<double>{1, 10, 100, 2, 20, 200, 3, 30, 300}));
  b->zero_grad();
  EXPECT_EQ(whole->grad().values(), (std::vector<double>{1, 10, 100, 2, 20, 200, 0, 0, 0}));
}

TEST(ParameterStack, AChangedPartIsPackedAnew) {
  ParameterSet set(7);
  const ParameterPtr a = set.xavier_uniform("a", {2, 3}), b = set.xavier_uniform("b", {1, 3});
  const ParameterPtr whole = set.for_products({a, b});
  const Tensor x = Tensor::from({1, 3}, {1, 1, 1}), y = Tensor::empty({1, 3}, DType::kF32);
  matmul(x, whole->packed_transposed(DType::kF32), y);
  b->set_value(Tensor::from({1, 3}, {7, 8, 9}));
  matmul(x, whole->packed_transposed(DType::kF32), y);
  EXPECT_EQ(y.at({0, 2}), 24);
}

TEST(ParameterStack, OfAModelThatOnlyRunsLetsTheValuesOfItsPartsGo) {
  ParameterSet set(ParameterStart(uint64_t{7}, Precision{DType::kF32}));
  const ParameterPtr a = set.xavier_uniform("a", {2, 3}), b = set.xavier_uniform("b", {1, 3});
  (void)set.for_products({a, b});
  EXPECT_ERROR(kUnsupported, "a: was packed for running", (void)a->value());
  EXPECT_FALSE(b->trainable());
}

TEST(ParameterStack, TrainsWhileAnyPartDoes) {
  ParameterSet set(7);
  const ParameterPtr a = set.xavier_uniform("a", {2, 3}), b = set.xavier_uniform("b", {1, 3});
  const ParameterPtr whole = set.for_products({a, b});
  a->set_trainable(false);
  EXPECT_TRUE(whole->trainable());
  b->set_trainable(false);
  EXPECT_FALSE(whole->trainable());
  EXPECT_ERROR(kInternal, "a is in a stack already", (void)Parameter::stack({a, b}));
}

TEST(ParameterStack, OfRowsOfDifferentWidthsIsRefused) {
  ParameterSet set(7);
  EXPECT_ERROR(kShape, "a is [2, 3], b is [2, 4]",
               (void)Parameter::stack({set.xavier_uniform("a", {2, 3}), set.xavier_uniform("b", {2, 4})}));
}

}  // namespace
}  // namespace qkv
