// Every family that this machine runs against the definition in ref/, evaluated in float64.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "qkv/kernels/table.h"

namespace qkv::kernels {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
const int64_t kWidths[] = {1, 2, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64};

std::vector<const Table*> tables() {
  std::vector<const Table*> all;
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i) all.push_back(&table_for(static_cast<Isa>(i)));
  return all;
}

std::vector<double> normals(int64_t n, uint64_t seed, double scale = 1) {
  RandomStream random({.seed = seed});
  std::vector<double> x(static_cast<size_t>(n));
  for (double& v : x) v = scale * random.normal();
  return x;
}

template <class U>
std::vector<U> as(const std::vector<double>& x) {
  std::vector<U> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = U(static_cast<float>(x[i]));
  return y;
}
// The values that x has once it is stored as U.
template <class U>
std::vector<double> through(const std::vector<double>& x) {
  std::vector<double> y;
  for (U v : as<U>(x)) y.push_back(static_cast<double>(static_cast<float>(v)));
  return y;
}

template <class T>
constexpr double kRounding = 1e-6;
template <>
constexpr double kRounding<bfloat16> = 1.0 / 256;

template <class T, class U>
void expect_close(const std::vector<U>& got, const std::vector<double>& want, double absolute,
                  const std::string& what) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const double g = static_cast<double>(static_cast<accumulator_t<U>>(got[i]));
    if (std::isnan(want[i])) {
      EXPECT_TRUE(std::isnan(g)) << what << " element " << i;
    } else if (std::isinf(want[i])) {
      EXPECT_EQ(g, want[i]) << what << " element " << i;
    } else {
      ASSERT_NEAR(g, want[i], absolute + kRounding<T> * std::abs(want[i])) << what << " element " << i;
    }
  }
}

// Scores of a tile with a hidden end, a wholly hidden row, and a row that has met nothing before.
template <class T>
void check_softmax(const Table& t, int64_t cols, bool dropout, bool hides) {
  const std::string what = std::string(name(t.isa)) + " " + std::to_string(cols) +
                           (dropout ? " dropout" : "") + (hides ? " hides" : "");
  const int64_t rows = 6, stride = 70;
  std::vector<double> s = through<float>(normals(rows * stride, 3, 4)),
                      max = through<float>(normals(rows, 4, 2)), sum(rows, 1.5);
  for (int64_t c = 0; c < cols; ++c) s[1 * stride + c] = s[2 * stride + c] = -kInf;
  for (int64_t c = cols / 2; c < cols; ++c) s[3 * stride + c] = -kInf;
  max[2] = max[4] = -kInf, sum[2] = sum[4] = 0;
  std::vector<uint64_t> keep{0x123456789abcdef0u, ~0u, 5, 0xff00ff00ff00ff00u, 0xaaaaaaaaaaaaaaaau, 0};
  const std::vector<uint64_t> seen{~uint64_t{0},       0x5555555555555555u, 7, 0x00ff00ff00ff00ffu, 0,
                                   0xfedcba9876543210u};
  const uint64_t* visible = hides ? seen.data() : nullptr;

  const auto run = [&]<class U>(const KernelsFor<U>& kernels, U) {
    using A = accumulator_t<U>;
    std::vector<A> s_a(s.begin(), s.end()), max_a(max.begin(), max.end()), sum_a(sum.begin(), sum.end()),
        correction(rows);
    std::vector<U> p(rows * stride, U(A(7)));
    kernels.attention.softmax_tile({.rows = rows,
                                    .cols = cols,
                                    .s = s_a.data(),
                                    .stride = stride,
                                    .scale = A(0.5),
                                    .visible = visible,
                                    .keep = dropout ? keep.data() : nullptr,
                                    .max = max_a.data(),
                                    .sum = sum_a.data(),
                                    .correction = correction.data(),
                                    .p = p.data(),
                                    .p_stride = stride});
    return std::tuple(p, max_a, sum_a, correction);
  };
  const auto [p, m, l, c] = run(t.of<T>(), T{});
  const auto [want_p, want_m, want_l, want_c] = run(table_for(Isa::kRef).f64, double{});
  expect_close<T>(p, want_p, 1e-6, what + " p");  // what lies beyond a row's end is 7 in both
  expect_close<float>(m, want_m, 1e-6, what + " max");
  expect_close<float>(l, want_l, 1e-5, what + " sum");
  expect_close<float>(c, want_c, 1e-6, what + " correction");
  EXPECT_EQ(l[2], 0) << "a row that has seen nothing";
  EXPECT_EQ(c[2], 1);

  std::vector<double> dp = through<float>(normals(rows * stride, 5)),
                      row_max = through<float>(normals(rows, 6)), delta = through<float>(normals(rows, 7));
  for (double& x : row_max) x += 4;
  row_max[2] = -kInf;
  dp[1 * stride] = std::nan("");  // a hidden key's value
  const auto run_back = [&]<class U>(const KernelsFor<U>& kernels, U, bool exact) {
    using A = accumulator_t<U>;
    std::vector<A> s_a(s.begin(), s.end()), dp_a(dp.begin(), dp.end()),
        max_back(row_max.begin(), row_max.end()), share(rows, A(0.75)), delta_a(delta.begin(), delta.end());
    std::vector<U> weights(rows * stride, U(A(7))), ds(rows * stride, U(A(7)));
    kernels.attention.softmax_tile_backward({.rows = rows,
                                             .cols = cols,
                                             .s = s_a.data(),
                                             .dp = dp_a.data(),
                                             .stride = stride,
                                             .scale = A(0.5),
                                             .visible = visible,
                                             .keep = dropout ? keep.data() : nullptr,
                                             .keep_scale = A(1.25),
                                             .max = max_back.data(),
                                             .share = share.data(),
                                             .delta = delta_a.data(),
                                             .p = weights.data(),
                                             .ds = ds.data(),
                                             .p_stride = stride,
                                             .exact_ds = exact ? dp_a.data() : nullptr});
    return std::tuple(weights, ds, dp_a);
  };
  const auto [w, ds, unused] = run_back(t.of<T>(), T{}, false);
  const auto [want_w, want_ds, want_exact] = run_back(table_for(Isa::kRef).f64, double{}, false);
  const auto [w_again, untouched, exact_ds] = run_back(t.of<T>(), T{}, true);
  const auto [w_ref, ds_ref, exact_ref] = run_back(table_for(Isa::kRef).f64, double{}, true);
  EXPECT_TRUE(std::equal(w.begin(), w.end(), w_again.begin(),
                         [](T a, T b) { return static_cast<float>(a) == static_cast<float>(b); }));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < cols; ++j)
      EXPECT_NEAR(exact_ds[r * stride + j], exact_ref[r * stride + j],
                  1e-5 * (1 + std::abs(exact_ref[r * stride + j])))
          << what << " exact ds " << r << " " << j;
  expect_close<T>(w, want_w, 1e-6, what + " backward p");
  expect_close<T>(ds, want_ds, 3e-6, what + " ds");
  EXPECT_EQ(static_cast<float>(ds[1 * stride]), 0) << "weight 0 takes no gradient from NaN";
}

TEST(AttentionKernels, SoftmaxTileAndItsBackwardMatchTheDefinition) {
  for (const Table* t : tables())
    for (int64_t cols : kWidths)
      for (bool dropout : {false, true})
        for (bool hides : {false, true}) {
          check_softmax<float>(*t, cols, dropout, hides);
          check_softmax<bfloat16>(*t, cols, dropout, hides);
        }
}

template <class T>
void check_sigmoid(const Table& t, int64_t cols, bool dropout, bool hides) {
  const std::string what = std::string(name(t.isa)) + " sigmoid " + std::to_string(cols);
  const int64_t rows = 3, stride = 70;
  std::vector<double> s = through<float>(normals(rows * stride, 3, 4)),
                      dp = through<float>(normals(rows * stride, 5));
  s[0] = -kInf, s[1] = 1e4, s[stride] = -1e4;
  dp[0] = std::nan("");  // the value of a key of weight 0
  const std::vector<uint64_t> keep{0x123456789abcdef0u, ~0u, 0xaaaaaaaaaaaaaaaau},
      seen{~uint64_t{0}, 0x3333333333333333u, 5};
  const auto run = [&]<class U>(const KernelsFor<U>& kernels, U) {
    using A = accumulator_t<U>;
    std::vector<A> s_a(s.begin(), s.end()), dp_a(dp.begin(), dp.end()), exact(rows * stride);
    std::vector<U> p(rows * stride, U(A(7))), p_back = p, ds = p;
    SigmoidTile<U> tile{.rows = rows,
                        .cols = cols,
                        .s = s_a.data(),
                        .dp = dp_a.data(),
                        .stride = stride,
                        .scale = A(0.5),
                        .shift = A(-0.75),
                        .visible = hides ? seen.data() : nullptr,
                        .keep = dropout ? keep.data() : nullptr,
                        .keep_scale = A(1.25),
                        .p = p.data(),
                        .ds = ds.data(),
                        .p_stride = stride};
    kernels.attention.sigmoid_tile(tile);
    tile.p = p_back.data();
    kernels.attention.sigmoid_tile_backward(tile);
    tile.exact_ds = exact.data();
    kernels.attention.sigmoid_tile_backward(tile);
    return std::tuple(p, p_back, ds, exact);
  };
  const auto [p, p_back, ds, exact] = run(t.of<T>(), T{});
  const auto [want_p, want_p_back, want_ds, want_exact] = run(table_for(Isa::kRef).f64, double{});
  expect_close<T>(p, want_p, 2e-6, what);
  expect_close<T>(p_back, want_p_back, 2e-6, what + " backward p");
  expect_close<T>(ds, want_ds, 3e-6, what + " ds");
  expect_close<T>(exact, want_exact, 3e-6, what + " exact ds");
}

TEST(AttentionKernels, SigmoidTileAndItsBackwardMatchTheDefinition) {
  for (const Table* t : tables())
    for (int64_t cols : kWidths)
      for (bool dropout : {false, true})
        for (bool hides : {false, true}) {
          check_sigmoid<float>(*t, cols, dropout, hides);
          check_sigmoid<bfloat16>(*t, cols, dropout, hides);
        }
}

TEST(AttentionKernels, DiagonalsAndCapsMatchTheDefinition) {
  for (const Table* t : tables())
    for (int64_t cols : kWidths)
      for (int64_t rows : {1, 5, 64}) {
        const int64_t stride = 66;
        const std::vector<double> s = through<float>(normals(rows * stride, 1, 3)),
                                  bias = through<float>(normals(127, 2));
        const auto run = [&]<class A>(const AttentionKernels<A>& kernels, A) {
          std::vector<A> x(s.begin(), s.end()), b(bias.begin(), bias.end()), sums(127);
          kernels.add_diagonals(rows, cols, b.data() + rows - 1, x.data(), stride);
          kernels.soft_cap(rows, cols, A(2), x.data(), stride);
          std::vector<A> ds(s.begin(), s.end());
          kernels.soft_cap_backward(rows, cols, A(2), x.data(), ds.data(), stride);
          kernels.sum_diagonals(rows, cols, ds.data(), stride, sums.data() + rows - 1);
          return std::tuple(x, ds, sums);
        };
        const auto [x, ds, sums] = run(t->f32.attention, float{});
        const auto [want_x, want_ds, want_sums] = run(table_for(Isa::kRef).f64.attention, double{});
        const std::string what =
            std::string(name(t->isa)) + " " + std::to_string(rows) + " x " + std::to_string(cols);
        expect_close<float>(x, want_x, 1e-5, what);
        expect_close<float>(ds, want_ds, 1e-5, what + " ds");
        expect_close<float>(sums, want_sums, 1e-4, what + " sums");
      }
}

TEST(AttentionKernels, MaskedColumnsAddExactlyNothing) {
  for (const Table* t : tables())
    for (int64_t seen : kWidths) {
      std::vector<float> s = as<float>(normals(64, 11, 3));
      for (int64_t c = seen; c < 64; ++c) s[c] = static_cast<float>(-kInf);
      const auto run = [&](int64_t cols) {
        float max = static_cast<float>(-kInf), sum = 0, correction = 0;
        std::vector<float> p(64);
        t->f32.attention.softmax_tile({.rows = 1,
                                       .cols = cols,
                                       .s = s.data(),
                                       .stride = 64,
                                       .max = &max,
                                       .sum = &sum,
                                       .correction = &correction,
                                       .p = p.data(),
                                       .p_stride = 64});
        p.push_back(max), p.push_back(sum), p.push_back(correction);
        return p;
      };
      EXPECT_EQ(run(seen), run(64)) << name(t->isa) << " " << seen;
    }
}

TEST(AttentionKernels, NanScoresStayInTheirRow) {
  for (const Table* t : tables()) {
    std::vector<float> s(2 * 20, 1.0f), max(2, static_cast<float>(-kInf)), sum(2, 0.0f), correction(2), p(40);
    s[3] = std::nanf("");
    t->f32.attention.softmax_tile({.rows = 2,
                                   .cols = 20,
                                   .s = s.data(),
                                   .stride = 20,
                                   .max = max.data(),
                                   .sum = sum.data(),
                                   .correction = correction.data(),
                                   .p = p.data(),
                                   .p_stride = 20});
    EXPECT_TRUE(std::isnan(sum[0])) << name(t->isa);
    EXPECT_EQ(sum[1], 20) << name(t->isa);
  }
}

TEST(AttentionKernels, DropoutBitsEqualTheDefinition) {
  const Dropout dropout{.key = {.seed = 0x123456789, .stream = 4, .step = 9},
                        .threshold = Dropout::threshold_of(0.3)};
  const auto run = [&](const Table& t) {
    std::vector<uint64_t> keep(2 * 33);
    t.f32.attention.dropout_keep(33, (uint64_t{1} << 30) + 5, 3 << 24, dropout, keep.data());
    return keep;
  };
  const std::vector<uint64_t> want = run(table_for(Isa::kRef));
  int64_t kept = 0;
  for (uint64_t word : want) kept += __builtin_popcountll(word);
  EXPECT_NEAR(static_cast<double>(kept) / (66 * 64), 0.7, 0.02);
  for (const Table* t : tables()) EXPECT_EQ(run(*t), want) << name(t->isa);
}

// The same places as rows.dropout_add's: one definition of which places dropout keeps.
TEST(AttentionKernels, DropoutBitsAreThoseOfRows) {
  const Dropout dropout{.key = {.seed = 7, .stream = 1, .step = 2}, .threshold = Dropout::threshold_of(0.5)};
  std::vector<float> x(128, 1.0f), y(128);
  table().f32.rows.dropout_add(128, 128 * 6, x.data(), nullptr, dropout, y.data());
  uint64_t keep[2];
  table().f32.attention.dropout_keep(1, 6, 1, dropout, keep);
  for (int i = 0; i < 128; ++i) EXPECT_EQ(y[i] != 0, (keep[i / 64] >> (i % 64) & 1) != 0) << i;
}

template <class T>
void check_rows(const Table& t, int64_t d) {
  const int64_t rows = 5, ld = 70;
  const std::string what = std::string(name(t.isa)) + " d " + std::to_string(d);
  const std::vector<double> x = through<T>(normals(rows * ld, 1)), y = through<T>(normals(rows * ld, 2));
  const std::vector<double> factor{1, 0.5, -2, 0, 1};
  const std::vector<float> factors = as<float>(factor);
  const auto& kernels = t.of<T>().attention;

  std::vector<double> dots(rows), stored = std::vector<double>(rows * ld, 7), scaled = through<float>(x);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < d; ++i) {
      dots[r] += x[r * ld + i] * y[r * ld + i];
      stored[r * ld + i] = x[r * ld + i] * factor[r];
      scaled[r * ld + i] *= factor[r];
    }
  std::vector<float> got_dots(rows), got_scaled = as<float>(x);
  kernels.row_dots(rows, d, as<T>(x).data(), ld, as<T>(y).data(), ld, got_dots.data());
  expect_close<float>(got_dots, dots, 1e-5, what + " row_dots");
  kernels.scale_rows(rows, d, factors.data(), got_scaled.data(), ld);
  expect_close<float>(got_scaled, scaled, 0, what + " scale_rows");
  std::vector<T> got_stored(rows * ld, T(7.0f));
  kernels.store_rows(rows, d, factors.data(), as<float>(x).data(), ld, got_stored.data(), ld);
  expect_close<T>(got_stored, stored, 0, what + " store_rows");

  std::vector<T> z = as<T>(x);
  EXPECT_TRUE(kernels.all_finite(rows, d, z.data(), ld)) << what;
  z[d] = T(static_cast<float>(kInf));  // beyond the first row's end
  EXPECT_TRUE(kernels.all_finite(rows, d, z.data(), ld)) << what;
  for (int64_t at : {int64_t{0}, d - 1, (rows - 1) * ld + d / 2, (rows - 1) * ld + d - 1})
    for (double bad : {kInf, -kInf, static_cast<double>(std::nanf(""))}) {
      std::vector<T> w = as<T>(x);
      w[at] = T(static_cast<float>(bad));
      EXPECT_FALSE(kernels.all_finite(rows, d, w.data(), ld)) << what << " " << bad << " at " << at;
    }
}

TEST(AttentionKernels, RowHelpersMatchTheDefinition) {
  for (const Table* t : tables())
    for (int64_t d : kWidths) {
      check_rows<float>(*t, d);
      check_rows<bfloat16>(*t, d);
    }
}

template <class T>
void check_additive(const Table& t, int64_t d) {
  const int64_t rows = 3, cols = 5, ld = 70;
  const std::string what = std::string(name(t.isa)) + " additive d " + std::to_string(d);
  const std::vector<double> q = through<T>(normals(rows * ld, 1)), k = through<T>(normals(cols * ld, 2)),
                            v = through<float>(normals(d, 3));
  std::vector<double> ds = through<T>(normals(rows * cols, 4));
  ds[2] = 0;
  const auto run = [&]<class U>(const KernelsFor<U>& kernels, U) {
    using A = accumulator_t<U>;
    std::vector<A> s(rows * cols), v_a(v.begin(), v.end()), dq(rows * ld, A(1)), dk(cols * ld, A(2)),
        dv(d, A(3));
    std::vector<U> q_u(q.size()), k_u(k.size()), ds_u(ds.size());
    for (size_t i = 0; i < q.size(); ++i) q_u[i] = U(A(q[i]));
    for (size_t i = 0; i < k.size(); ++i) k_u[i] = U(A(k[i]));
    for (size_t i = 0; i < ds.size(); ++i) ds_u[i] = U(A(ds[i]));
    kernels.attention.additive_tile(rows, cols, d, q_u.data(), ld, k_u.data(), ld, v_a.data(), s.data(),
                                    cols);
    kernels.attention.additive_tile_backward(rows, cols, d, q_u.data(), ld, k_u.data(), ld, v_a.data(),
                                             ds_u.data(), cols, dq.data(), ld, dk.data(), ld, dv.data());
    return std::tuple(s, dq, dk, dv);
  };
  const auto [s, dq, dk, dv] = run(t.of<T>(), T{});
  const auto [want_s, want_dq, want_dk, want_dv] = run(table_for(Isa::kRef).f64, double{});
  expect_close<float>(s, want_s, 1e-5, what + " s");
  expect_close<float>(dq, want_dq, 1e-5, what + " dq");
  expect_close<float>(dk, want_dk, 1e-5, what + " dk");
  expect_close<float>(dv, want_dv, 1e-5, what + " dv");
}

TEST(AttentionKernels, AdditiveTileAndItsBackwardMatchTheDefinition) {
  for (const Table* t : tables())
    for (int64_t d : kWidths) {
      check_additive<float>(*t, d);
      check_additive<bfloat16>(*t, d);
    }
}

}  // namespace
}  // namespace qkv::kernels
