// Every optimizer against its formula, written out once more in float64 and nothing else.

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "qkv/base/parallel.h"
#include "qkv/base/philox.h"
#include "qkv/io/file.h"
#include "qkv/io/json.h"
#include "qkv/io/testing.h"
#include "qkv/train/optimizers/adam.h"
#include "qkv/train/optimizers/muon.h"
#include "qkv/train/optimizers/sgd.h"
#include "qkv/train/optimizers/shampoo.h"

namespace qkv {
namespace {

using Numbers = std::vector<double>;

Numbers normals(int64_t n, uint32_t stream, uint32_t step, double scale = 1) {
  RandomStream random({.seed = 3, .stream = stream, .step = step});
  Numbers out(static_cast<size_t>(n));
  for (double& x : out) x = static_cast<float>(scale * random.normal());  // as f32 will hold it
  return out;
}

std::vector<ParameterPtr> make_parameters() {
  std::vector<ParameterPtr> all;
  const auto add = [&](const Shape& shape, bool decays) {
    const auto i = static_cast<uint32_t>(all.size());
    all.push_back(std::make_shared<Parameter>(
        fmt::format("p{}", i), Tensor::from(shape, normals(shape.numel(), i, 0, 0.5), DType::kF32)));
    all.back()->set_decays(decays);
  };
  add({5, 7}, true);
  add({65, 33}, true);
  add({16, 70}, true);
  add({64}, false);
  add({1}, false);
  add({1, 9}, false);
  add({3, 4, 5}, true);
  add({11, 6}, true);
  all.back()->set_table(true);
  return all;
}

// One parameter as a formula sees it. g is clipped already.
struct Place {
  size_t i;
  Shape shape;
  bool decays, is_table;
  Numbers& w;
  Numbers g;
  double t, rate;
  bool is_matrix() const { return shape.rank() >= 2 && columns() > 1 && shape.numel() > columns(); }
  int64_t columns() const { return shape.rank() > 0 ? shape[shape.rank() - 1] : 1; }
  int64_t rows() const { return shape.numel() / columns(); }
  double decay(double x) const { return decays ? x : 0; }
};
using Formula = std::function<void(Place&)>;
using Memory = std::map<size_t, Numbers>;

Numbers& memory_of(Memory& memory, const Place& p) {
  Numbers& m = memory[p.i];
  m.resize(p.w.size());
  return m;
}

double squares(const Numbers& x) {
  double sum = 0;
  for (double v : x) sum += v * v;
  return sum;
}

constexpr int kSteps = 24;
double rate_at(int t, double rate) { return rate * (1 + 0.5 * std::sin(t)); }
Numbers gradient_at(const Parameter& p, size_t i, int t) {
  return normals(p.value().numel(), static_cast<uint32_t>(i), static_cast<uint32_t>(t), t % 5 == 0 ? 10 : 1);
}

void step_all(Optimizer& optimizer, int t, double rate) {
  const auto& all = optimizer.parameters();
  for (size_t i = 0; i < all.size(); ++i)
    all[i]->grad().copy_from(Tensor::from(all[i]->value().shape(), gradient_at(*all[i], i, t), DType::kF32));
  optimizer.step(rate_at(t, rate), optimizer.grad_norm());
}

// Runs both for kSteps, with changing rates and with gradients of which every fifth is clipped. The largest
// error must be within `share` of the largest movement, besides the rounding of the weights themselves.
void expect_trajectory(const OptimizerChoice& choice, double rate, double share, const Formula& formula) {
  constexpr double kClip = 100;
  OptimizerChoice clipped = choice;
  clipped.clip_norm = kClip;
  const std::unique_ptr<Optimizer> optimizer = make_optimizer(clipped, make_parameters());
  const auto& all = optimizer->parameters();
  std::vector<Numbers> w;
  for (const ParameterPtr& p : all) w.push_back(p->value().values());
  const std::vector<Numbers> start = w;
  int times_clipped = 0;
  for (int t = 1; t <= kSteps; ++t) {
    step_all(*optimizer, t, rate);
    std::vector<Numbers> g;
    double total = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      g.push_back(gradient_at(*all[i], i, t));
      total += squares(g.back());
    }
    const double factor = std::sqrt(total) > kClip ? kClip / std::sqrt(total) : 1;
    times_clipped += factor < 1;
    for (size_t i = 0; i < all.size(); ++i) {
      for (double& x : g[i]) x *= factor;
      Place place{.i = i,
                  .shape = all[i]->value().shape(),
                  .decays = all[i]->decays(),
                  .is_table = all[i]->is_table(),
                  .w = w[i],
                  .g = g[i],
                  .t = static_cast<double>(t),
                  .rate = rate_at(t, rate)};
      formula(place);
    }
  }
  EXPECT_EQ(times_clipped, 4);
  for (size_t i = 0; i < all.size(); ++i) {
    const Numbers got = all[i]->value().values();
    double error = 0, moved = 0, largest = 0;
    for (size_t k = 0; k < got.size(); ++k) {
      error = std::max(error, std::abs(got[k] - w[i][k]));
      moved = std::max(moved, std::abs(w[i][k] - start[i][k]));
      largest = std::max(largest, std::abs(w[i][k]));
    }
    EXPECT_GT(moved, rate / 2) << choice.name << " " << all[i]->name();
    EXPECT_LE(error, share * moved + kSteps * 0x1p-24 * largest)
        << choice.name << " " << all[i]->name() << ": " << error / moved << " of the movement";
  }
}

// AdamW's m, v and direction, which several are made of.
struct Moments {
  double beta1, beta2, eps;
  Memory m = {}, v = {};
  Numbers direction(Place& p) {
    Numbers &first = memory_of(m, p), &second = memory_of(v, p), out(p.w.size());
    for (size_t k = 0; k < out.size(); ++k) {
      first[k] = beta1 * first[k] + (1 - beta1) * p.g[k];
      second[k] = beta2 * second[k] + (1 - beta2) * p.g[k] * p.g[k];
      out[k] =
          first[k] / (1 - std::pow(beta1, p.t)) / (std::sqrt(second[k] / (1 - std::pow(beta2, p.t))) + eps);
    }
    return out;
  }
};

void adamw_step(Place& p, Moments& moments, double rate, double decay) {
  const Numbers d = moments.direction(p);
  for (size_t k = 0; k < d.size(); ++k) p.w[k] -= rate * (d[k] + p.decay(decay) * p.w[k]);
}

// f32 holds beta2 = 0.999 to 1.3e-5 of 1 - beta2: with the roundings of the step, 2e-5 of the way.
TEST(Optimizers, AdamFollowsItsFormula) {
  Moments moments{0.9, 0.98, 1e-9};
  expect_trajectory({.name = "adam"}, 0.01, 5e-6, [&](Place& p) { adamw_step(p, moments, p.rate, 0); });
}

TEST(Optimizers, AdamWFollowsItsFormula) {
  Moments moments{0.8, 0.999, 1e-3};
  expect_trajectory({.name = "adamw", .options = {{"beta1", 0.8}, {"eps", 1e-3}, {"weight_decay", 0.3}}},
                    0.01, 2e-5, [&](Place& p) { adamw_step(p, moments, p.rate, 0.3); });
}

TEST(Optimizers, SgdFollowsItsFormula) {
  for (const auto& [momentum, nesterov] : {std::pair{0.0, false}, {0.9, false}, {0.8, true}}) {
    Memory memory;
    expect_trajectory({.name = "sgd",
                       .options = {{"momentum", momentum},
                                   {"nesterov", static_cast<double>(nesterov)},
                                   {"weight_decay", 0.2}}},
                      0.05, 1e-6, [&, momentum = momentum, nesterov = nesterov](Place& p) {
                        Numbers& m = memory_of(memory, p);
                        for (size_t k = 0; k < m.size(); ++k) {
                          const double g = p.g[k] + p.decay(0.2) * p.w[k];
                          m[k] = momentum * m[k] + g;
                          p.w[k] -= p.rate * (nesterov ? g + momentum * m[k] : m[k]);
                        }
                      });
  }
}

TEST(Optimizers, LionFollowsItsFormula) {
  Memory memory;
  expect_trajectory({.name = "lion", .options = {{"weight_decay", 0.2}}}, 0.01, 1e-6, [&](Place& p) {
    Numbers& m = memory_of(memory, p);
    for (size_t k = 0; k < m.size(); ++k) {
      const double c = 0.9 * m[k] + 0.1 * p.g[k];
      p.w[k] -= p.rate * ((c > 0 ? 1 : c < 0 ? -1 : 0) + p.decay(0.2) * p.w[k]);
      m[k] = 0.99 * m[k] + 0.01 * p.g[k];
    }
  });
}

TEST(Optimizers, LambFollowsItsFormula) {
  Moments moments{0.9, 0.999, 1e-6};
  expect_trajectory({.name = "lamb", .options = {{"weight_decay", 0.2}}}, 0.02, 1e-5, [&](Place& p) {
    Numbers r = moments.direction(p);
    for (size_t k = 0; k < r.size(); ++k) r[k] += p.decay(0.2) * p.w[k];
    const double trust = std::sqrt(squares(p.w) / squares(r));
    for (size_t k = 0; k < r.size(); ++k) p.w[k] -= p.rate * trust * r[k];
  });
}

void adafactor_follows(bool relative, double beta1, double decay) {
  Memory rows, columns, second, first;
  expect_trajectory(
      {.name = "adafactor",
       .options =
           {{"relative_step", relative}, {"beta1", beta1}, {"weight_decay", decay}, {"clip_update", 0.9}}},
      0.02, 1e-5, [&](Place& p) {
        const double b = 1 - std::pow(p.t, -0.8);
        const int64_t n = p.rows(), c = p.columns();
        Numbers u(p.w.size());
        if (p.is_matrix()) {
          Numbers &r = rows[p.i], &q = columns[p.i];
          r.resize(n), q.resize(c);
          double mean = 0;
          for (int64_t i = 0; i < n; ++i) {
            double sum = 0;
            for (int64_t j = 0; j < c; ++j) sum += p.g[i * c + j] * p.g[i * c + j] + 1e-30;
            r[i] = b * r[i] + (1 - b) * sum / static_cast<double>(c);
            mean += r[i] / static_cast<double>(n);
          }
          for (int64_t j = 0; j < c; ++j) {
            double sum = 0;
            for (int64_t i = 0; i < n; ++i) sum += p.g[i * c + j] * p.g[i * c + j] + 1e-30;
            q[j] = b * q[j] + (1 - b) * sum / static_cast<double>(n);
          }
          for (int64_t i = 0; i < n; ++i)
            for (int64_t j = 0; j < c; ++j) u[i * c + j] = p.g[i * c + j] / std::sqrt(r[i] * q[j] / mean);
        } else {
          Numbers& v = memory_of(second, p);
          for (size_t k = 0; k < v.size(); ++k) {
            v[k] = b * v[k] + (1 - b) * (p.g[k] * p.g[k] + 1e-30);
            u[k] = p.g[k] / std::sqrt(v[k]);
          }
        }
        const auto size = static_cast<double>(u.size());
        const double clip = std::max(1.0, std::sqrt(squares(u) / size) / 0.9);
        const double rate = relative ? p.rate * std::max(1e-3, std::sqrt(squares(p.w) / size)) : p.rate;
        Numbers& m = memory_of(first, p);
        for (size_t k = 0; k < u.size(); ++k) {
          m[k] = beta1 * m[k] + (1 - beta1) * u[k] / clip;
          p.w[k] -= rate * (m[k] + p.decay(decay) * p.w[k]);
        }
      });
}
TEST(Optimizers, AdafactorFollowsItsFormula) {
  adafactor_follows(false, 0, 0);
  adafactor_follows(true, 0, 0);
  adafactor_follows(false, 0.9, 0.2);
}

// a [n, m] b [m, c]; and the transpose.
Numbers times(const Numbers& a, const Numbers& b, int64_t n, int64_t m, int64_t c) {
  Numbers out(static_cast<size_t>(n * c));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < m; ++k)
      for (int64_t j = 0; j < c; ++j) out[i * c + j] += a[i * m + k] * b[k * c + j];
  return out;
}
Numbers transposed(const Numbers& a, int64_t n, int64_t m) {
  Numbers out(a.size());
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < m; ++j) out[j * n + i] = a[i * m + j];
  return out;
}

Numbers plain_orthogonal(Numbers x, int64_t n, int64_t c) {
  const double length = std::sqrt(squares(x)) + 1e-7;
  for (double& v : x) v /= length;
  for (int k = 0; k < 5; ++k) {  // on the left, whatever the shape: the same polynomial of singular values
    const Numbers a = times(x, transposed(x, n, c), n, c, n), ax = times(a, x, n, n, c),
                  aax = times(a, ax, n, n, c);
    for (size_t e = 0; e < x.size(); ++e) x[e] = 3.4445 * x[e] - 4.7750 * ax[e] + 2.0315 * aax[e];
  }
  return x;
}

// The iteration multiplies small singular values by 3.44^5 = 485, and the roundings of f32 with them.
TEST(Optimizers, MuonFollowsItsFormula) {
  for (bool nesterov : {true, false}) {
    Memory memory;
    Moments moments{0.9, 0.95, 1e-10};
    expect_trajectory(
        {.name = "muon",
         .options = {{"nesterov", static_cast<double>(nesterov)}, {"weight_decay", 0.2}, {"adam_rate", 0.5}}},
        0.02, 1e-5, [&](Place& p) {
          if (!p.is_matrix() || p.is_table || p.shape.rank() != 2)
            return adamw_step(p, moments, 0.5 * p.rate, 0.2);
          Numbers &m = memory_of(memory, p), d = p.g;
          for (size_t k = 0; k < m.size(); ++k) {
            m[k] = 0.95 * m[k] + p.g[k];
            d[k] = nesterov ? p.g[k] + 0.95 * m[k] : m[k];
          }
          const Numbers o = plain_orthogonal(d, p.rows(), p.columns());
          const double scale =
              std::sqrt(std::max(1.0, static_cast<double>(p.rows()) / static_cast<double>(p.columns())));
          for (size_t k = 0; k < o.size(); ++k) p.w[k] -= p.rate * (scale * o[k] + p.decay(0.2) * p.w[k]);
        });
  }
}

// a^(-1/4) through the eigenvectors of Jacobi's rotations: nothing in common with an iteration for roots.
Numbers root_by_eigenvectors(Numbers a, int64_t n, double damping) {
  const double shift = damping * std::sqrt(squares(a));
  for (int64_t i = 0; i < n; ++i) a[i * n + i] += shift;
  Numbers v(a.size());
  for (int64_t i = 0; i < n; ++i) v[i * n + i] = 1;
  for (int sweep = 0; sweep < 12; ++sweep)
    for (int64_t p = 0; p < n; ++p)
      for (int64_t q = p + 1; q < n; ++q) {
        if (std::abs(a[p * n + q]) < 1e-300) continue;
        const double theta = 0.5 * std::atan2(2 * a[p * n + q], a[q * n + q] - a[p * n + p]);
        const double c = std::cos(theta), s = std::sin(theta);
        const auto turn = [c, s](double& x, double& y) {
          const double before = x;
          x = c * x - s * y;
          y = s * before + c * y;
        };
        for (int64_t k = 0; k < n; ++k) turn(a[k * n + p], a[k * n + q]);
        for (int64_t k = 0; k < n; ++k) turn(a[p * n + k], a[q * n + k]);
        for (int64_t k = 0; k < n; ++k) turn(v[k * n + p], v[k * n + q]);
      }
  Numbers scaled = v;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) scaled[i * n + j] *= std::pow(a[j * n + j], -0.25);
  return times(scaled, transposed(v, n, n), n, n, n);
}

TEST(InverseFourthRoot, IsThatOfTheEigenvalues) {
  for (int64_t n : {2, 5, 33}) {
    // Of a rank below n: the least eigenvalues are the damping alone.
    const Numbers g = normals(n * 4, 9, 9), a = times(g, transposed(g, n, 4), n, 4, n);
    const Tensor got = inverse_fourth_root(Tensor::from({n, n}, a, DType::kF64), 1e-6);
    const Numbers expected = root_by_eigenvectors(a, n, 1e-6);
    for (int64_t k = 0; k < n * n; ++k)
      EXPECT_NEAR(got.values()[k], expected[k], 1e-7 * expected[0]) << n << " " << k;
    const Tensor f32 = inverse_fourth_root(Tensor::from({n, n}, a, DType::kF32), 1e-4);
    const Numbers damped = root_by_eigenvectors(a, n, 1e-4);
    for (int64_t k = 0; k < n * n; ++k)
      EXPECT_NEAR(f32.values()[k], damped[k], 5e-4 * damped[0]) << n << " " << k;
  }
  EXPECT_EQ(inverse_fourth_root(Tensor::zeros({2, 2}, DType::kF32), 1e-4).values(), (Numbers{1, 0, 0, 1}));
}

// L and R are f32: their last digits are 6e-8 of the largest eigenvalue, and 1e-4 of it is the least there
// is.
TEST(Optimizers, ShampooFollowsItsFormula) {
  Moments moments{0.9, 0.99, 1e-8};
  Memory left, right, left_root, right_root;
  expect_trajectory(
      {.name = "shampoo", .options = {{"root_every", 5}, {"root_max_side", 65}, {"weight_decay", 0.2}}}, 0.01,
      5e-5, [&](Place& p) {
        if (!p.is_matrix()) return adamw_step(p, moments, p.rate, 0.2);
        const int64_t n = p.rows(), c = p.columns();
        const Numbers a = moments.direction(p), gt = transposed(p.g, n, c);
        const auto side = [&](Memory& mean, Memory& roots, const Numbers& x, const Numbers& y, int64_t size,
                              int64_t inner) {
          Numbers &m = mean[p.i], &root = roots[p.i];
          m.resize(size * size);
          const Numbers square = times(x, y, size, inner, size);
          for (size_t k = 0; k < m.size(); ++k) m[k] = 0.99 * m[k] + 0.01 * square[k];
          if (p.t == 1 || static_cast<int>(p.t) % 5 == 0) root = root_by_eigenvectors(m, size, 1e-4);
          return root;
        };
        Numbers d = moments.m[p.i];
        d = times(side(left, left_root, p.g, gt, n, c), d, n, n, c);
        if (c <= 65) d = times(d, side(right, right_root, gt, p.g, c, n), n, c, c);
        const double graft = std::sqrt(squares(a) / squares(d));
        for (size_t k = 0; k < d.size(); ++k) p.w[k] -= p.rate * (graft * d[k] + p.decay(0.2) * p.w[k]);
      });
}

// Singular values far apart come near 1, and the factors stay.
TEST(Orthogonal, BringsSingularValuesNearOne) {
  const Tensor diagonal = Tensor::from({2, 3}, {3, 0, 0, 0, -0.2, 0});
  const Numbers o = orthogonal(diagonal).values();
  EXPECT_NEAR(o[0], 1, 0.35);
  EXPECT_NEAR(o[4], -1, 0.35);
  for (int k : {1, 2, 3, 5}) EXPECT_EQ(o[k], 0);
  EXPECT_EQ(orthogonal(Tensor::zeros({3, 2}, DType::kF32)).values(), Numbers(6));
}

// By hand: with one element and a constant gradient of 1, bias-corrected Adam moves by the rate at each step.
TEST(Optimizers, AConstantGradientMovesAdamByTheRate) {
  const auto w = std::make_shared<Parameter>("w", Tensor::full({2, 3}, DType::kF32, 5));
  Adam optimizer({w}, {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-12});
  for (int step = 0; step < 3; ++step) {
    w->grad().fill(1);
    EXPECT_NEAR(optimizer.grad_norm(), std::sqrt(6.0), 1e-6);
    optimizer.step(0.5, optimizer.grad_norm());
  }
  EXPECT_NEAR(w->value().at({1, 2}), 3.5, 1e-5);
  EXPECT_EQ(w->grad().at({0, 0}), 0);
}

// What does not train must not make the step of what does smaller by clipping.
TEST(Optimizers, AFrozenParameterDoesNotCountInTheNorm) {
  const auto w = std::make_shared<Parameter>("w", Tensor::full({2}, DType::kF32, 5)),
             frozen = std::make_shared<Parameter>("frozen", Tensor::full({2}, DType::kF32, 5));
  Adam optimizer({w, frozen}, {});
  w->grad().fill(1);
  frozen->grad().fill(100);
  frozen->set_trainable(false);
  EXPECT_NEAR(optimizer.grad_norm(), std::sqrt(2.0), 1e-6);
}

TEST(Optimizers, TheSameBitsOnAnyNumberOfThreads) {
  const int before = threads();
  for (const OptimizerKind& kind : optimizers()) {
    std::vector<std::vector<Numbers>> results;
    for (int n : {1, 3}) {
      set_threads(n);
      // One tensor large enough to be split everywhere.
      std::vector<ParameterPtr> all = make_parameters();
      all.push_back(
          std::make_shared<Parameter>("large", Tensor::from({70, 90}, normals(6300, 50, 0), DType::kF32)));
      const auto optimizer = make_optimizer({.name = std::string(kind.name), .clip_norm = 10}, all);
      for (int t = 1; t <= 2; ++t) step_all(*optimizer, t, kind.rate);
      results.emplace_back();
      for (const ParameterPtr& p : all) results.back().push_back(p->value().values());
    }
    set_threads(before);
    EXPECT_EQ(results[0], results[1]) << kind.name;
  }
}

TEST(Optimizers, StateAndStepCountAreAllThatTheNextStepsDependOn) {
  for (const OptimizerKind& kind : optimizers()) {
    const OptimizerChoice choice{.name = std::string(kind.name)};
    const auto straight = make_optimizer(choice, make_parameters());
    for (int t = 1; t <= 3; ++t) step_all(*straight, t, kind.rate);
    const auto resumed = make_optimizer(choice, make_parameters());
    ASSERT_EQ(resumed->state().size(), straight->state().size());
    for (size_t k = 0; k < resumed->state().size(); ++k) {
      EXPECT_EQ(resumed->state()[k].name, straight->state()[k].name);
      resumed->state()[k].value.copy_from(straight->state()[k].value);
    }
    for (size_t i = 0; i < resumed->parameters().size(); ++i)
      resumed->parameters()[i]->value().copy_from(straight->parameters()[i]->value());
    resumed->set_steps(3);
    for (int t = 4; t <= 5; ++t)
      for (Optimizer* each : {straight.get(), resumed.get()}) step_all(*each, t, kind.rate);
    for (size_t i = 0; i < resumed->parameters().size(); ++i)
      EXPECT_EQ(resumed->parameters()[i]->value().values(), straight->parameters()[i]->value().values())
          << kind.name;
  }
}

TEST(Optimizers, WhatIsFrozenStays) {
  for (const OptimizerKind& kind : optimizers()) {
    auto all = make_parameters();
    all[1]->set_trainable(false);
    const Numbers before = all[1]->value().values();
    const auto optimizer = make_optimizer({.name = std::string(kind.name)}, all);
    step_all(*optimizer, 1, kind.rate);
    EXPECT_EQ(all[1]->value().values(), before) << kind.name;
    EXPECT_EQ(all[1]->grad().at({0, 0}), 0) << kind.name;
  }
}

// A word that a batch does not hold has a gradient of zeros: nothing may divide by them.
TEST(Optimizers, ZeroGradientsMakeNoNaN) {
  for (const OptimizerKind& kind : optimizers()) {
    const auto optimizer = make_optimizer({.name = std::string(kind.name)}, make_parameters());
    for (int t = 1; t <= 3; ++t) {
      if (t == 2) {
        optimizer->parameters()[1]->grad().fill(0);
        optimizer->parameters()[1]->grad().rows(0, 1).fill(1e-3);
      }
      optimizer->step(kind.rate, optimizer->grad_norm());
    }
    for (const ParameterPtr& p : optimizer->parameters())
      for (double x : p->value().values()) ASSERT_TRUE(std::isfinite(x)) << kind.name;
  }
}

TEST(Optimizers, WhatMakesNoSenseIsRefusedByName) {
  const auto make = [](const std::string& name, std::map<std::string, double> options, double clip = 0) {
    return make_optimizer({.name = name, .options = std::move(options), .clip_norm = clip}, {});
  };
  EXPECT_ERROR(kValue, "did you mean adamw?", make("adanw", {}));
  EXPECT_ERROR(kValue, "weight_decay (0.1) is not for adam; it is for adamw, sgd",
               make("adam", {{"weight_decay", 0.1}}));
  EXPECT_NO_THROW(make("adam", {{"weight_decay", 0}}));
  EXPECT_ERROR(kValue, "did you mean momentum?", make("sgd", {{"momentun", 0.1}}));
  EXPECT_ERROR(kValue, "lion: beta1 is 1, needs to be at least 0 and below 1", make("lion", {{"beta1", 1}}));
  EXPECT_ERROR(kValue, "nesterov looks ahead", make("sgd", {{"momentum", 0}, {"nesterov", 1}}));
  EXPECT_ERROR(kValue, "newton_steps is 2.5, needs to be a whole number",
               make("muon", {{"newton_steps", 2.5}}));
  EXPECT_ERROR(kValue, "relative_step is 2, needs to be true or false",
               make("adafactor", {{"relative_step", 2}}));
  EXPECT_ERROR(kValue, "clip_norm is -1", make("sgd", {}, -1));
}

// torch_trajectories.json: PyTorch 1.13 in float64, by torch_trajectories.py beside this file.
TEST(Optimizers, FollowPyTorchWhereItHasThem) {
  const std::string path = QKV_SOURCE_DIR "/qkv/train/optimizers/torch_trajectories.json";
  const io::Json cases = io::read_json(path);
  ASSERT_EQ(cases.size(), 5u);
  for (const io::Json& each : cases) {
    const auto w = std::make_shared<Parameter>("w", Tensor::zeros({5, 7}, DType::kF32));
    for (int i = 0; i < 35; ++i) w->value().data<float>()[i] = static_cast<float>(std::cos(0.3 * i));
    w->set_decays(true);
    const auto optimizer = make_optimizer(
        {.name = each["name"], .options = each["options"].get<std::map<std::string, double>>()}, {w});
    for (int t = 1; t <= 30; ++t) {
      for (int i = 0; i < 35; ++i)
        w->grad().data<float>()[i] = static_cast<float>((1 + 3 * (t % 4 == 0)) * std::sin(0.7 * i + 1.3 * t));
      optimizer->step(0.01 * (1 + t % 3), optimizer->grad_norm());
      if (t % 10 != 0) continue;
      const auto expected = each["weights"][t / 10 - 1].get<Numbers>();
      for (int i = 0; i < 35; ++i)
        EXPECT_NEAR(w->value().data<float>()[i], expected[i], 1e-5) << each["name"];
    }
  }
}

}  // namespace
}  // namespace qkv
