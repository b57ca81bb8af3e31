#include "qkv/kernels/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "qkv/base/philox.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {
namespace {

std::vector<Isa> families() {
  std::vector<Isa> out;
  for (Isa isa : {Isa::kRef, Isa::kAvx2, Isa::kAvx512, Isa::kAmx})
    if (isa <= best_isa()) out.push_back(isa);
  return out;
}

std::vector<float> normals(int64_t n, uint32_t stream, double scale = 1) {
  RandomStream random({.seed = 5, .stream = stream});
  std::vector<float> out(n);
  for (float& x : out) x = static_cast<float>(scale * random.normal());
  return out;
}

AdamW options_at(int t) {
  return {.lr = 1e-2f,
          .beta1 = 0.9f,
          .beta2 = 0.98f,
          .eps = 1e-9f,
          .decay = 0.1f,
          .bias1 = static_cast<float>(1 - std::pow(double{0.9f}, t)),
          .bias2 = static_cast<float>(1 - std::pow(double{0.98f}, t)),
          .grad_scale = 0.5f};
}

// One step moves a weight by about lr; the weights are about 1, so float rounds each step by at most 2^-24,
// and the quotient of moments carries about 8 roundings. A random walk of 100 steps of those stays far under
// their sum.
TEST(AdamWKernel, FollowsTheFloat64TrajectoryFor100Steps) {
  const int64_t n = 333;
  for (Isa isa : families()) {
    std::vector<float> w = normals(n, 0), m(n), v(n);
    std::vector<double> wd(w.begin(), w.end()), md(n), vd(n);
    for (int t = 1; t <= 100; ++t) {
      const AdamW o = options_at(t);
      const std::vector<float> g = normals(n, t, t % 7 == 0 ? 100 : 1);
      table_for(isa).optimizer.adamw(n, o, g.data(), w.data(), m.data(), v.data());
      for (int64_t i = 0; i < n; ++i) {
        const double gi = double{o.grad_scale} * g[i];
        md[i] = double{o.beta1} * md[i] + (1 - double{o.beta1}) * gi;
        vd[i] = double{o.beta2} * vd[i] + (1 - double{o.beta2}) * gi * gi;
        wd[i] -=
            double{o.lr} * (md[i] / o.bias1 / (std::sqrt(vd[i] / o.bias2) + o.eps) + double{o.decay} * wd[i]);
      }
    }
    double worst = 0;
    for (int64_t i = 0; i < n; ++i) worst = std::max(worst, std::abs(w[i] - wd[i]));
    EXPECT_LE(worst, 100 * (0x1p-24 * 2 + 8 * 0x1p-24 * 1e-2)) << name(isa);
    EXPECT_GT(std::abs(wd[0] - normals(n, 0)[0]), 1e-3);  // it did move
  }
}

TEST(AdamWKernel, TouchesOnlyItsElementsAndGivesEachTheSameWhereverItLies) {
  for (Isa isa : families()) {
    const auto& k = table_for(isa).optimizer;
    for (int64_t n = 0; n <= 70; ++n) {
      std::vector<float> g = normals(80, 1), w = normals(80, 2), m = normals(80, 3), v(80, 0.5f);
      const std::vector<float> w0 = w, m0 = m;
      std::vector<float> we = w, me = m, ve = v;
      k.adamw(n, options_at(3), g.data() + 3, w.data() + 3, m.data() + 3, v.data() + 3);
      for (int64_t i = 3; i < 3 + n; ++i) k.adamw(1, options_at(3), &g[i], &we[i], &me[i], &ve[i]);
      EXPECT_EQ(w, we) << n;
      EXPECT_EQ(m, me) << n;
      EXPECT_EQ(v, ve) << n;
      for (int64_t i : {int64_t{2}, 3 + n}) EXPECT_TRUE(w[i] == w0[i] && m[i] == m0[i] && v[i] == 0.5f) << n;
      EXPECT_EQ(w[3] != w0[3], n > 0);
    }
  }
}

TEST(AdamWKernel, WithoutDecayAndOnTheFirstStepMovesByTheLearningRate) {
  for (Isa isa : families()) {
    float g[3] = {2, -0.01f, 0}, w[3] = {1, 1, 1}, m[3] = {}, v[3] = {};
    AdamW o = options_at(1);
    o.decay = 0;
    table_for(isa).optimizer.adamw(3, o, g, w, m, v);
    EXPECT_NEAR(w[0], 0.99, 1e-6);
    EXPECT_NEAR(w[1], 1.01, 1e-6);
    EXPECT_EQ(w[2], 1);
  }
}

// A weight moves by lr times a direction of about 1 / (1 - momentum): each step rounds the weight once and
// the direction a few times.
TEST(SgdKernel, FollowsTheFloat64TrajectoryFor100Steps) {
  const int64_t n = 333;
  for (Isa isa : families())
    for (const Sgd& o : {Sgd{.lr = 1e-2f, .decay = 0.1f, .grad_scale = 0.5f},
                         Sgd{.lr = 1e-2f, .momentum = 0.9f, .decay = 0.1f, .grad_scale = 0.5f},
                         Sgd{.lr = 1e-2f, .momentum = 0.9f, .grad_scale = 2, .nesterov = true}}) {
      std::vector<float> w = normals(n, 0), m(n);
      std::vector<double> wd(w.begin(), w.end()), md(n);
      for (int t = 1; t <= 100; ++t) {
        const std::vector<float> g = normals(n, t);
        table_for(isa).optimizer.sgd(n, o, g.data(), w.data(), o.momentum > 0 ? m.data() : nullptr);
        for (int64_t i = 0; i < n; ++i) {
          const double gi = double{o.grad_scale} * g[i] + double{o.decay} * wd[i];
          md[i] = double{o.momentum} * md[i] + gi;
          wd[i] -= double{o.lr} * (o.nesterov ? gi + double{o.momentum} * md[i] : md[i]);
        }
      }
      double worst = 0;
      for (int64_t i = 0; i < n; ++i) worst = std::max(worst, std::abs(w[i] - wd[i]));
      EXPECT_LE(worst, 100 * 0x1p-24 * 4) << name(isa);
      EXPECT_GT(std::abs(wd[0] - normals(n, 0)[0]), 1e-3);
    }
}

// The sign jumps at 0, where rounding may choose the other side: the gradients keep away from it.
TEST(LionKernel, FollowsTheFloat64TrajectoryFor100Steps) {
  const int64_t n = 333;
  const Lion o{.lr = 1e-2f, .decay = 0.1f, .grad_scale = 0.5f};
  for (Isa isa : families()) {
    std::vector<float> w = normals(n, 0), m(n);
    std::vector<double> wd(w.begin(), w.end()), md(n);
    for (int t = 1; t <= 100; ++t) {
      const std::vector<float> g = normals(n, t);
      table_for(isa).optimizer.lion(n, o, g.data(), w.data(), m.data());
      for (int64_t i = 0; i < n; ++i) {
        const double gi = double{o.grad_scale} * g[i],
                     c = double{o.beta1} * md[i] + (1 - double{o.beta1}) * gi;
        wd[i] -= double{o.lr} * ((c > 0 ? 1 : c < 0 ? -1 : 0) + double{o.decay} * wd[i]);
        md[i] = double{o.beta2} * md[i] + (1 - double{o.beta2}) * gi;
        EXPECT_NEAR(m[i], md[i], 1e-6);
      }
    }
    for (int64_t i = 0; i < n; ++i) EXPECT_NEAR(w[i], wd[i], 100 * 0x1p-24 * 2) << name(isa);
  }
}

TEST(LionKernel, ZeroHasNoSign) {
  for (Isa isa : families()) {
    float g[3] = {1, 0, -2}, w[3] = {1, 1, 1}, m[3] = {};
    table_for(isa).optimizer.lion(3, {.lr = 0.5f}, g, w, m);
    EXPECT_EQ(w[0], 0.5f);
    EXPECT_EQ(w[1], 1);
    EXPECT_EQ(w[2], 1.5f);
  }
}

TEST(SgdAndLionKernels, TouchOnlyTheirElementsAndGiveEachTheSameWhereverItLies) {
  const Sgd sgd{.lr = 0.1f, .momentum = 0.9f, .decay = 0.1f, .nesterov = true};
  const Lion lion{.lr = 0.1f, .decay = 0.1f};
  for (Isa isa : families()) {
    const auto& k = table_for(isa).optimizer;
    for (int64_t n = 0; n <= 70; ++n) {
      const std::vector<float> g = normals(80, 1), w0 = normals(80, 2), m0 = normals(80, 3);
      const auto check = [&](auto&& step, bool has_m) {
        std::vector<float> w = w0, m = m0, we = w0, me = m0;
        step(n, g.data() + 3, w.data() + 3, m.data() + 3);
        for (int64_t i = 3; i < 3 + n; ++i) step(1, &g[i], &we[i], &me[i]);
        EXPECT_EQ(w, we) << n;
        EXPECT_EQ(m, me) << n;
        for (int64_t i : {int64_t{2}, 3 + n}) EXPECT_TRUE(w[i] == w0[i] && m[i] == m0[i]) << n;
        EXPECT_EQ(w[3] != w0[3], n > 0);
        EXPECT_EQ(m[3] != m0[3], has_m && n > 0);
      };
      check([&](int64_t c, const float* x, float* w, float* m) { k.sgd(c, sgd, x, w, m); }, true);
      check([&](int64_t c, const float* x, float* w, float*) { k.sgd(c, {.lr = 0.1f}, x, w, nullptr); },
            false);
      check([&](int64_t c, const float* x, float* w, float* m) { k.lion(c, lion, x, w, m); }, true);
    }
  }
}

TEST(Approach, GoesAShareOfTheWayAndTouchesNothingElse) {
  for (Isa isa : families())
    for (int64_t n = 0; n <= 70; ++n) {
      const auto x = normals(80, 1);
      auto y = normals(80, 2);
      const auto before = y;
      table_for(isa).optimizer.approach(n, 0.3f, x.data() + 1, y.data() + 3);
      for (int64_t i = 0; i < 80; ++i) {
        if (i < 3 || i >= 3 + n)
          EXPECT_EQ(y[i], before[i]);
        else
          EXPECT_NEAR(y[i], before[i] + double{0.3f} * (x[i - 2] - before[i]), 8 * 0x1p-24);
      }
    }
}

TEST(SumSquares, IsThatOfFloat64ToItsLastDigits) {
  for (Isa isa : families())
    for (int64_t n : {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 66, 1000, 100003}) {
      const auto x = normals(n + 1, 1, 1e10);  // squares beyond float's 2^-24 and, summed in float, imprecise
      long double sum = 0;
      for (int64_t i = 0; i < n; ++i) sum += static_cast<long double>(x[i + 1]) * x[i + 1];
      const double got = table_for(isa).optimizer.sum_squares(n, x.data() + 1);
      EXPECT_NEAR(got, static_cast<double>(sum), static_cast<double>(sum) * n * 0x1p-53) << n;
      EXPECT_EQ(got, table_for(isa).optimizer.sum_squares(n, x.data() + 1));
    }
}

TEST(Axpy, AddsAMultipleAndTouchesNothingElse) {
  for (Isa isa : families())
    for (int64_t n = 0; n <= 70; ++n) {
      const auto x = normals(80, 1);
      auto y = normals(80, 2);
      const auto before = y;
      table_for(isa).optimizer.axpy(n, 0.3f, x.data() + 1, y.data() + 3);
      for (int64_t i = 0; i < 80; ++i) {
        if (i < 3 || i >= 3 + n)
          EXPECT_EQ(y[i], before[i]);
        else
          EXPECT_NEAR(y[i], double{0.3f} * x[i - 2] + before[i], 8 * 0x1p-24);
      }
    }
}

}  // namespace
}  // namespace qkv::kernels
