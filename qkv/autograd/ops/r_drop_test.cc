#include <gtest/gtest.h>

#include <cmath>

#include "qkv/autograd/gradcheck.h"
#include "qkv/autograd/ops/cross_entropy.h"
#include "qkv/base/error.h"
#include "qkv/base/parallel.h"

namespace qkv {
namespace {

struct Case {
  int64_t n, d, vocab;
  ParameterPtr weight = std::make_shared<Parameter>("w", Tensor());
  ParameterPtr bias = weight;
  Tensor first, second;
  std::vector<int32_t> targets;

  Case(int64_t n_, int64_t d_, int64_t vocab_, DType dtype) : n(n_), d(d_), vocab(vocab_) {
    const DType master = accumulator_dtype(dtype);
    weight = std::make_shared<Parameter>("w", random_tensor({vocab, d}, 1, master));
    bias = std::make_shared<Parameter>("b", random_tensor({vocab}, 2, master));
    first = random_tensor({n, d}, 3, dtype);
    second = random_tensor({n, d}, 4, dtype);
    for (int64_t i = 0; i < n; ++i) targets.push_back(static_cast<int32_t>(i * 3 % vocab));
  }
  CrossEntropy loss(const Var& a, const Var& b, double smoothing, double alpha) const {
    return r_drop(a, b, weight, bias, targets, smoothing, alpha, 0.5);
  }
  std::vector<double> log_softmax(const Tensor& hidden, int64_t r) const {
    const std::vector<double> h = hidden.values(), w = weight->value().values();
    std::vector<double> z = bias->value().values();
    double sum = 0;
    for (int64_t c = 0; c < vocab; ++c) {
      for (int64_t k = 0; k < d; ++k) z[c] += h[r * d + k] * w[c * d + k];
      sum += std::exp(z[c]);
    }
    for (double& x : z) x -= std::log(sum);
    return z;
  }
  // The formula, row by row.
  double plain(double smoothing, double alpha) const {
    double total = 0;
    for (int64_t r = 0; r < n; ++r) {
      const auto p = log_softmax(first, r), q = log_softmax(second, r);
      for (int64_t c = 0; c < vocab; ++c) {
        const double wanted = (c == targets[r] ? 1 - smoothing : 0) + smoothing / static_cast<double>(vocab);
        total -= wanted * (p[c] + q[c]) / 2;
        total += alpha / 4 * (std::exp(p[c]) - std::exp(q[c])) * (p[c] - q[c]);
      }
    }
    return total;
  }
};

TEST(RDrop, IsItsFormula) {
  for (auto [n, d, vocab] : {std::array<int64_t, 3>{4, 3, 7}, {1, 1, 1}, {37, 2, 5}, {65, 8, 130}}) {
    const Case c(n, d, vocab, DType::kF64);
    EXPECT_NEAR(c.loss(Var(c.first), Var(c.second), 0.1, 5).loss_sum, c.plain(0.1, 5), 1e-10 * n);
    const Case f(n, d, vocab, DType::kF32);
    EXPECT_NEAR(f.loss(Var(f.first), Var(f.second), 0.1, 5).loss_sum, f.plain(0.1, 5), 2e-5 * n);
  }
}

TEST(RDrop, GradientsOfBothPassesAndTheOutputLayer) {
  for (auto [n, d, vocab] : {std::array<int64_t, 3>{4, 3, 7}, {1, 1, 1}, {37, 2, 5}}) {
    const Case c(n, d, vocab, DType::kF64);
    const Var a(c.first, true), b(c.second, true);
    backward(c.loss(a, b, 0.1, 3).loss);
    // Made for a seed of 1, as those of cross_entropy.
    const auto check = [&](const Tensor& t, const std::vector<double>& got) {
      const double eps = 1e-6;
      const auto at = [&](double* x, double value) {
        const double before = *x;
        *x = value;
        const double loss = 0.5 * c.plain(0.1, 3);
        *x = before;
        return loss;
      };
      for (int64_t i = 0; i < t.numel(); ++i) {
        double* x = t.data<double>() + i;
        EXPECT_NEAR(got[i], (at(x, *x + eps) - at(x, *x - eps)) / (2 * eps), 1e-5) << i;
      }
    };
    check(c.first, a.grad().values());
    check(c.second, b.grad().values());
    check(c.weight->value(), c.weight->grad().values());
    check(c.bias->value(), c.bias->grad().values());
  }
}

TEST(RDrop, EqualPassesAreCrossEntropy) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const Case c(33, 8, 65, dtype), e(33, 8, 65, dtype);
    const Var a(c.first, true), b(c.first, true), h(e.first, true);
    const CrossEntropy both = c.loss(a, b, 0.1, 7),
                       one = cross_entropy(h, e.weight, e.bias, e.targets, 0.1, 0.5);
    backward(both.loss);
    backward(one.loss);
    const double small = dtype == DType::kF64 ? 1e-12 : 1e-5;
    EXPECT_NEAR(both.loss_sum, one.loss_sum, small * one.loss_sum);
    EXPECT_NEAR(both.nll_sum, one.nll_sum, small * one.nll_sum);
    const auto twice = a.grad().values(), once = h.grad().values();
    for (size_t i = 0; i < once.size(); ++i)
      EXPECT_NEAR(2 * twice[i], once[i], (dtype == DType::kBF16 ? 0.02 : 1e-5) * (1 + std::abs(once[i])));
  }
}

TEST(RDrop, TheSameBitsOnAnyNumberOfThreads) {
  const int before = threads();
  std::vector<std::vector<double>> results;
  for (int n : {1, 3}) {
    set_threads(n);
    const Case c(1100, 8, 300, DType::kBF16);
    const Var a(c.first, true), b(c.second, true);
    const CrossEntropy ce = c.loss(a, b, 0.1, 5);
    backward(ce.loss);
    results.push_back(a.grad().values());
    results.push_back(c.weight->grad().values());
    results.push_back({ce.loss_sum});
  }
  set_threads(before);
  for (int k : {0, 1, 2}) EXPECT_EQ(results[k], results[k + 3]);
}

TEST(RDrop, WhatDoesNotFitIsRefused) {
  const Case c(4, 3, 7, DType::kF32);
  EXPECT_THROW(c.loss(Var(c.first), Var(c.second.rows(0, 3)), 0, 1), Error);
  EXPECT_THROW(c.loss(Var(c.first), Var(c.second), 0, -1), Error);
}

}  // namespace
}  // namespace qkv
