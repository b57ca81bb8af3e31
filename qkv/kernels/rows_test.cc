// Every family against float64. The bound everywhere, with the float64 result as truth:
//
//   error of the fast kernel <= 2 (error of the plain loop in the same dtype) + 2 u max|truth|
//
// u = 2^-24 for float, 2^-8 for bfloat16 is half a unit in the last place; the second term keeps the bound
// fair where the plain loop happened to hit the truth. Truth is ref<double> on the same (already rounded)
// inputs.

#include "qkv/kernels/rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "qkv/kernels/rows_test_support.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {
namespace {

double largest_error(const std::vector<double>& got, const std::vector<double>& truth) {
  double worst = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    const double error = std::abs(got[i] - truth[i]);
    if (!(error <= worst)) worst = error;  // NaN is the worst
  }
  return worst;
}

template <class T>
void expect_accurate(const std::vector<double>& got, const std::vector<double>& plain,
                     const std::vector<double>& truth, double magnitude, const std::string& what) {
  double scale = magnitude;
  for (double x : truth) scale = std::max(scale, std::abs(x));
  EXPECT_LE(largest_error(got, truth), 2 * largest_error(plain, truth) + 2 * unit<T>() * scale) << what;
}

using Outputs = std::vector<std::vector<double>>;

// body(kernels, T{}) runs a kernel of RowKernels<T> and returns its outputs (first those in T, then, from
// `first_acc` on, those in the accumulator's type). It is run in float64 on ref, in T on ref, and in T on
// each fast family.
template <class T, class Body>
void compare(const std::string& what, double magnitude, size_t first_acc, Body&& body) {
  const Outputs truth = body(table_for(Isa::kRef).of<double>().rows, double{});
  const Outputs plain = body(table_for(Isa::kRef).of<T>().rows, T{});
  for (Isa isa : fast_families()) {
    const Outputs got = body(table_for(isa).of<T>().rows, T{});
    for (size_t i = 0; i < truth.size(); ++i) {
      const std::string name_ = what + " output " + std::to_string(i) + " on " + std::string(name(isa));
      if (i < first_acc)
        expect_accurate<T>(got[i], plain[i], truth[i], magnitude, name_);
      else
        expect_accurate<accumulator_t<T>>(got[i], plain[i], truth[i], magnitude, name_);
    }
  }
}

template <class T>
class RowKernelsOf : public testing::Test {};
using FastTypes = testing::Types<float, bfloat16>;
TYPED_TEST_SUITE(RowKernelsOf, FastTypes);

TYPED_TEST(RowKernelsOf, NormsAgreeWithFloat64AtEveryWidth) {
  using T = TypeParam;
  for (int64_t d : widths()) {
    const int64_t rows = d < 128 ? 1 + d % 7 : 5;
    const auto x = normals<T>(rows * d, 1, 2, 3), dy = normals<T>(rows * d, 2);
    const auto gamma = normals<float>(d, 3, 0.2, 1), beta = normals<float>(d, 4);
    const std::string at = " d " + std::to_string(d);
    compare<T>("layer_norm" + at, 0, 1, [&](const auto& k, auto t) -> Outputs {
      using U = decltype(t);
      using A = accumulator_t<U>;
      Buffer<U> bx(x), y(rows * d, 3);
      Buffer<A> g(gamma), b(beta), mean(rows), rstd(rows);
      k.layer_norm(rows, d, bx, g, b, A(1e-5), y, mean, rstd);
      EXPECT_TRUE(y.guards_untouched() && mean.guards_untouched() && rstd.guards_untouched()) << d;
      return {y.values(), mean.values(), rstd.values()};
    });
    compare<T>("layer_norm_backward" + at, 1, 1, [&](const auto& k, auto t) -> Outputs {
      using U = decltype(t);
      using A = accumulator_t<U>;
      Buffer<U> bx(x), bdy(dy), dx(rows * d, 3), y(rows * d);
      Buffer<A> g(gamma), b(beta), mean(rows), rstd(rows), dgamma(beta),
          dbeta(gamma);  // added to what is there
      table_for(Isa::kRef).of<U>().rows.layer_norm(rows, d, bx, g, b, A(1e-5), y, mean, rstd);
      k.layer_norm_backward(rows, d, bdy, bx, g, mean, rstd, dx, dgamma, dbeta);
      EXPECT_TRUE(dx.guards_untouched() && dgamma.guards_untouched() && dbeta.guards_untouched()) << d;
      return {dx.values(), dgamma.values(), dbeta.values()};
    });
    compare<T>("rms_norm" + at, 0, 1, [&](const auto& k, auto t) -> Outputs {
      using U = decltype(t);
      using A = accumulator_t<U>;
      Buffer<U> bx(x), y(rows * d, 3);
      Buffer<A> g(gamma), rstd(rows);
      k.rms_norm(rows, d, bx, g, A(1e-5), y, rstd);
      EXPECT_TRUE(y.guards_untouched() && rstd.guards_untouched()) << d;
      return {y.values(), rstd.values()};
    });
    compare<T>("rms_norm_backward" + at, 1, 1, [&](const auto& k, auto t) -> Outputs {
      using U = decltype(t);
      using A = accumulator_t<U>;
      Buffer<U> bx(x), bdy(dy), dx(rows * d, 3), y(rows * d);
      Buffer<A> g(gamma), rstd(rows), dgamma(beta);
      table_for(Isa::kRef).of<U>().rows.rms_norm(rows, d, bx, g, A(1e-5), y, rstd);
      k.rms_norm_backward(rows, d, bdy, bx, g, rstd, dx, dgamma);
      EXPECT_TRUE(dx.guards_untouched() && dgamma.guards_untouched()) << d;
      return {dx.values(), dgamma.values()};
    });
  }
}

TYPED_TEST(RowKernelsOf, SoftmaxAgreesWithFloat64AtEveryWidth) {
  using T = TypeParam;
  for (int64_t d : widths()) {
    const int64_t rows = d < 128 ? 1 + d % 3 : 2;
    const auto x = normals<T>(rows * d, 1, 4, 30), dy = normals<T>(rows * d, 2);
    const std::string at = " d " + std::to_string(d);
    compare<T>("softmax" + at, 0, 1, [&](const auto& k, auto t) -> Outputs {
      using U = decltype(t);
      Buffer<U> bx(x), y(rows * d, 3);
      k.softmax(rows, d, bx, y);
      k.softmax(rows, d, bx, bx);  // in place
      EXPECT_TRUE(y.guards_untouched() && bx.guards_untouched()) << d;
      EXPECT_EQ(bx.values(), y.values()) << d;
      return {y.values()};
    });
    compare<T>("softmax_backward" + at, 4, 1, [&](const auto& k, auto t) -> Outputs {
      using U = decltype(t);
      Buffer<U> bx(x), y(rows * d, 3), bdy(dy), dx(rows * d);
      table_for(Isa::kRef).of<U>().rows.softmax(rows, d, bx, y);
      k.softmax_backward(rows, d, bdy, y, dx);
      EXPECT_TRUE(dx.guards_untouched()) << d;
      return {dx.values()};
    });
  }
}

TYPED_TEST(RowKernelsOf, CrossEntropyAgreesWithFloat64AtEveryWidth) {
  using T = TypeParam;
  auto sizes = widths();
  sizes.push_back(32000);
  for (int64_t n : sizes)
    for (double smoothing : {0.0, 0.1}) {
      const auto logits = normals<float>(n, 1, 3, -200);
      const int64_t target = n * 2 / 3;
      compare<T>("cross_entropy n " + std::to_string(n), 1, 1, [&](const auto& k, auto t) -> Outputs {
        using U = decltype(t);
        using A = accumulator_t<U>;
        Buffer<A> x(logits), nll(1), nll2(1);
        Buffer<U> dlogits(n);
        const A loss = k.cross_entropy(n, x, target, A(smoothing), A(0.25), dlogits, nll);
        EXPECT_EQ(k.cross_entropy(n, x, target, A(smoothing), A(0.25), nullptr, nll2), loss);
        EXPECT_EQ(nll.values(), nll2.values());
        EXPECT_TRUE(dlogits.guards_untouched() && nll.guards_untouched()) << n;
        return {dlogits.values(), {static_cast<double>(loss)}, nll.values()};
      });
      // The target's element dwarfs the others, so these are held to a relative bound: the rounding to T, and
      // about ten of float in exp, sum and factor.
      if (smoothing != 0) continue;
      std::vector<double> truth(n);
      double unused = 0;
      table_for(Isa::kRef).f64.rows.cross_entropy(n, logits.data(), target, 0, 0.25, truth.data(), &unused);
      for (Isa isa : fast_families()) {
        Buffer<float> x(logits), nll(1);
        Buffer<T> got(n);
        table_for(isa).of<T>().rows.cross_entropy(n, x, target, 0, 0.25f, got, nll);
        for (int64_t c = 0; c < n; ++c) {
          if (c == target) continue;
          EXPECT_NEAR(static_cast<double>(got[c]) / truth[c], 1, unit<T>() + 16 * 0x1p-24)
              << c << " of " << n;
        }
      }
    }
}

TYPED_TEST(RowKernelsOf, TablesAndColumnSumsAgreeWithFloat64AtEveryWidth) {
  using T = TypeParam;
  for (int64_t d : widths()) {
    if (d > 1000) continue;
    const int64_t rows = 19;
    const auto table_ = normals<float>(7 * d, 1), plus = normals<float>(4 * d, 2);
    const auto dy = normals<T>(rows * d, 3);
    std::vector<int32_t> ids(rows), places(rows);
    for (int64_t r = 0; r < rows; ++r) ids[r] = (r * r + 3) % 7, places[r] = r % 4;
    const std::string at = " d " + std::to_string(d);
    compare<T>("gather, scatter_add, column_sum" + at, 0, 2, [&](const auto& k, auto t) -> Outputs {
      using U = decltype(t);
      using A = accumulator_t<U>;
      Buffer<A> w(table_), p(plus), dw(table_), out(std::vector<double>(table_.begin(), table_.begin() + d));
      Buffer<U> y(rows * d), y2(rows * d), g(dy);
      k.gather(rows, d, w, ids.data(), A(16), p, places.data(), y);
      k.gather(rows, d, w, ids.data(), A(16), nullptr, nullptr, y2);
      k.scatter_add(rows, d, d / 3, d, g, ids.data(), A(16), dw);  // in two parts, as threads would
      k.scatter_add(rows, d, 0, d / 3, g, ids.data(), A(16), dw);
      k.column_sum(rows, d - d / 4, g.data() + d / 4, d, out.data());
      EXPECT_TRUE(y.guards_untouched() && y2.guards_untouched() && dw.guards_untouched() &&
                  out.guards_untouched());
      return {y.values(), y2.values(), dw.values(), out.values()};
    });
  }
}

TYPED_TEST(RowKernelsOf, ElementwiseKernelsAgreeWithFloat64AtEveryWidth) {
  using T = TypeParam;
  for (int64_t n : widths()) {
    const auto a = normals<T>(n, 1, 2), b = normals<T>(n, 2, 2);
    compare<T>("elementwise n " + std::to_string(n), 0, 4, [&](const auto& k, auto t) -> Outputs {
      using U = decltype(t);
      using A = accumulator_t<U>;
      Buffer<U> x(a), z(b), sum(n), product(n), scaled(n), rounded(n), in_place(a);
      Buffer<A> wide(n), exact(normals<float>(n, 3));
      k.add(n, x, z, sum);
      k.add(n, in_place, z, in_place);
      k.multiply(n, x, z, product);
      k.scale(n, A(0.37), x, scaled);
      k.from_acc(n, exact, rounded);
      k.to_acc(n, x, wide);
      EXPECT_EQ(in_place.values(), sum.values());
      EXPECT_EQ(wide.values(), a);
      EXPECT_TRUE(sum.guards_untouched() && product.guards_untouched() && scaled.guards_untouched() &&
                  rounded.guards_untouched() && wide.guards_untouched());
      return {sum.values(), product.values(), scaled.values(), rounded.values()};
    });
  }
}

TYPED_TEST(RowKernelsOf, ActivationsAgreeWithFloat64AtEveryWidthAndSlope) {
  using T = TypeParam;
  // In float the error of simd/math.h's functions shows: up to 16 * 2 u = 1.9e-6, where x is about 9.
  const double magnitude = sizeof(T) == 4 ? 16 : 0;
  for (Activation f : {Activation::kNone, Activation::kRelu, Activation::kGelu, Activation::kGeluTanh,
                       Activation::kSilu, Activation::kTanh, Activation::kEluPlusOne})
    for (int64_t n : widths()) {
      const auto x = normals<T>(n, 1, 3), dy = normals<T>(n, 2);
      const std::string what =
          "activation " + std::to_string(static_cast<int>(f)) + " n " + std::to_string(n);
      compare<T>(what, magnitude, 2, [&](const auto& k, auto t) -> Outputs {
        using U = decltype(t);
        Buffer<U> bx(x), bdy(dy), y(n, 3), dx(n, 3);
        k.activation(n, f, bx, y);
        // Tanh wants its output, here the same one in every dtype.
        std::vector<double> pre = x;
        if (f == Activation::kTanh)
          for (double& p : pre) p = static_cast<double>(T(static_cast<float>(std::tanh(p))));
        k.activation_backward(n, f, bdy, Buffer<U>(pre), dx);
        EXPECT_TRUE(y.guards_untouched() && dx.guards_untouched());
        return {y.values(), dx.values()};
      });
    }
}

// Central differences of ref<double>. L = sum of weight * y; the step 1e-5 leaves an error of about 1e-9.
template <class F>
void expect_gradient(const std::vector<double>& gradient, std::vector<double> x, F&& loss, const char* what) {
  for (size_t i = 0; i < x.size(); ++i) {
    const double x0 = x[i], h = 1e-5;
    x[i] = x0 + h;
    const double up = loss(x);
    x[i] = x0 - h;
    const double down = loss(x);
    x[i] = x0;
    EXPECT_NEAR(gradient[i], (up - down) / (2 * h), 1e-7) << what << " " << i;
  }
}

TEST(Gradients, OfTheDefinitionAreThoseOfFiniteDifferences) {
  const auto& k = table_for(Isa::kRef).f64.rows;
  const int64_t rows = 3, d = 7, n = rows * d;
  auto x = normals<double>(n, 1), w = normals<double>(n, 2), gamma = normals<double>(d, 3);
  const auto beta = normals<double>(d, 4);
  std::vector<double> y(n), dx(n), mean(rows), rstd(rows), dgamma(d), dbeta(d);
  const auto dot = [&] {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += w[i] * y[i];
    return sum;
  };
  const auto layer = [&](const std::vector<double>& in, const std::vector<double>& g,
                         const std::vector<double>& b) {
    k.layer_norm(rows, d, in.data(), g.data(), b.data(), 1e-3, y.data(), mean.data(), rstd.data());
    return dot();
  };
  layer(x, gamma, beta);
  k.layer_norm_backward(rows, d, w.data(), x.data(), gamma.data(), mean.data(), rstd.data(), dx.data(),
                        dgamma.data(), dbeta.data());
  expect_gradient(
      dx, x, [&](const auto& v) { return layer(v, gamma, beta); }, "layer_norm dx");
  expect_gradient(
      dgamma, gamma, [&](const auto& v) { return layer(x, v, beta); }, "layer_norm dgamma");
  expect_gradient(
      dbeta, beta, [&](const auto& v) { return layer(x, gamma, v); }, "layer_norm dbeta");

  const auto rms = [&](const std::vector<double>& in, const std::vector<double>& g) {
    k.rms_norm(rows, d, in.data(), g.data(), 1e-3, y.data(), rstd.data());
    return dot();
  };
  rms(x, gamma);
  dgamma.assign(d, 0);
  k.rms_norm_backward(rows, d, w.data(), x.data(), gamma.data(), rstd.data(), dx.data(), dgamma.data());
  expect_gradient(
      dx, x, [&](const auto& v) { return rms(v, gamma); }, "rms_norm dx");
  expect_gradient(
      dgamma, gamma, [&](const auto& v) { return rms(x, v); }, "rms_norm dgamma");

  const auto soft = [&](const std::vector<double>& in) {
    k.softmax(rows, d, in.data(), y.data());
    return dot();
  };
  soft(x);
  k.softmax_backward(rows, d, w.data(), y.data(), dx.data());
  expect_gradient(dx, x, soft, "softmax");

  double nll = 0;
  const auto entropy = [&](const std::vector<double>& in) {
    return 0.7 * k.cross_entropy(n, in.data(), 4, 0.1, 1, nullptr, &nll);
  };
  k.cross_entropy(n, x.data(), 4, 0.1, 0.7, dx.data(), &nll);
  expect_gradient(dx, x, entropy, "cross_entropy");

  const Dropout dropout{.key = {.seed = 5}, .threshold = 20000};
  const auto drop = [&](const std::vector<double>& in) {
    k.dropout_add(n, 256, in.data(), nullptr, dropout, y.data());
    return dot();
  };
  k.dropout_add(n, 256, w.data(), nullptr, dropout, dx.data());
  expect_gradient(dx, x, drop, "dropout");

  for (Activation f : {Activation::kNone, Activation::kRelu, Activation::kGelu, Activation::kGeluTanh,
                       Activation::kSilu, Activation::kTanh, Activation::kEluPlusOne}) {
    const auto act = [&](const std::vector<double>& in) {
      k.activation(n, f, in.data(), y.data());
      return dot();
    };
    act(x);
    k.activation_backward(n, f, w.data(), f == Activation::kTanh ? y.data() : x.data(), dx.data());
    expect_gradient(dx, x, act, "activation");
  }

  const std::vector<int32_t> ids = {1, 0, 1};
  auto table_ = normals<double>(2 * d, 6);
  std::vector<double> dtable(2 * d);
  const auto pick = [&](const std::vector<double>& in) {
    k.gather(rows, d, in.data(), ids.data(), 1.5, nullptr, nullptr, y.data());
    return dot();
  };
  k.scatter_add(rows, d, 0, d, w.data(), ids.data(), 1.5, dtable.data());
  expect_gradient(dtable, table_, pick, "gather");
}

}  // namespace
}  // namespace qkv::kernels
