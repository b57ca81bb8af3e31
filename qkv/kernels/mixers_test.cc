#include "qkv/kernels/mixers.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "qkv/base/philox.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {
namespace {

// Numbers of type U; uniform in [low, high) or all one value.
template <class U>
std::vector<U> numbers(int64_t n, uint32_t stream, double low, double high) {
  RandomStream random({.seed = 1, .stream = stream});
  std::vector<U> x(static_cast<size_t>(n));
  for (U& v : x) v = U(static_cast<accumulator_t<U>>(low + (high - low) * random.uniform()));
  return x;
}
template <class U, class W>
std::vector<U> as(const std::vector<W>& x) {
  std::vector<U> y;
  for (W v : x) y.push_back(U(static_cast<accumulator_t<U>>(v)));
  return y;
}

constexpr int64_t kRows = 16, kLd = 70;  // rows are strided

// The inputs are numbers of T, so that float64 computes from the same ones; the results of all kernels as
// doubles, in one row after the other.
template <class T>
struct Inputs {
  using A = accumulator_t<T>;
  std::vector<T> q, k, ds;
  std::vector<A> a, s, weight;
};

template <class U, class T>
std::vector<double> results(const MixerKernels<U>& kernels, const Inputs<T>& from, int64_t d) {
  using A = accumulator_t<U>;
  const auto q = as<U>(from.q), k = as<U>(from.k), ds = as<U>(from.ds);
  const auto a = as<A>(from.a), s = as<A>(from.s);
  auto weight = as<A>(from.weight);
  for (size_t i = 0; i < weight.size(); i += 3) weight[i] = 0;
  const size_t size = static_cast<size_t>(kRows * kLd);
  std::vector<double> all;
  const auto keep = [&](const auto& x) {
    for (auto v : x) all.push_back(static_cast<double>(v));
  };

  std::vector<U> y(size, U(A(7)));  // a value that must survive outside the d columns
  std::vector<A> bias(kRows, A(0.5)), sum(kRows, A(1)), total(kLd, A(7)), work(kLd);
  kernels.exp_rows(kRows, d, s.data(), kLd, bias.data(), y.data(), kLd);
  keep(y);
  kernels.weigh({.rows = kRows,
                 .cols = d,
                 .s = s.data(),
                 .weight = weight.data(),
                 .stride = kLd,
                 .bias = bias.data(),
                 .p = y.data(),
                 .p_stride = kLd,
                 .sum = sum.data()});
  keep(y);
  keep(sum);
  for (bool to_end : {false, true}) {
    kernels.decay_rows({.rows = kRows,
                        .d = d,
                        .to_end = to_end,
                        .a = a.data(),
                        .lda = kLd,
                        .x = q.data(),
                        .ldx = kLd,
                        .y = y.data(),
                        .ldy = kLd,
                        .total = total.data()});
    keep(y);
    keep(total);
    std::vector<A> dx(size, A(1)), db(size, A(2));
    kernels.decay_rows_backward({.rows = kRows,
                                 .d = d,
                                 .to_end = to_end,
                                 .a = a.data(),
                                 .lda = kLd,
                                 .y = q.data(),
                                 .ldy = kLd,
                                 .dy = s.data(),
                                 .lddy = kLd,
                                 .dx = dx.data(),
                                 .db = db.data(),
                                 .lddx = kLd,
                                 .lddb = kLd});
    keep(dx);
    keep(db);
  }
  std::vector<A> scores(size, A(7)), dq(size, A(1)), dk(size, A(2)), db(size, A(3));
  kernels.decayed_scores({.rows = kRows,
                          .d = d,
                          .q = q.data(),
                          .k = k.data(),
                          .ldq = kLd,
                          .ldk = kLd,
                          .a = a.data(),
                          .lda = kLd,
                          .s = scores.data(),
                          .work = work.data(),
                          .stride = kLd});
  keep(scores);
  kernels.decayed_scores_backward({.rows = kRows,
                                   .d = d,
                                   .q = q.data(),
                                   .k = k.data(),
                                   .ldq = kLd,
                                   .ldk = kLd,
                                   .a = a.data(),
                                   .lda = kLd,
                                   .ds = ds.data(),
                                   .stride = kLd,
                                   .dq = dq.data(),
                                   .dk = dk.data(),
                                   .db = db.data(),
                                   .ldd = kLd});
  keep(dq);
  keep(dk);
  keep(db);
  for (int64_t a_step : {0, 1}) {
    std::vector<A> state(static_cast<size_t>(d * d), A(0.25)), out(static_cast<size_t>(3 * d));
    kernels.step({.d = d,
                  .d_v = d,
                  .heads = 3,
                  .a = a.data(),
                  .a_step = a_step,
                  .k = k.data(),
                  .v = k.data() + kLd,
                  .q = q.data(),
                  .ldq = kLd,
                  .s = state.data(),
                  .out = out.data()});
    keep(state);
    keep(out);
  }
  return all;
}

template <class T>
void expect_agreement(double tolerance) {
  for (int64_t d : {1, 7, 8, 9, 16, 17, 31, 33, 64}) {
    const Inputs<T> in{.q = numbers<T>(kRows * kLd, 1, -1, 1),
                       .k = numbers<T>(kRows * kLd, 2, -1, 1),
                       .ds = numbers<T>(kRows * kLd, 3, -1, 1),
                       .a = numbers<accumulator_t<T>>(kRows * kLd, 4, 0, 1),
                       .s = numbers<accumulator_t<T>>(kRows * kLd, 5, -2, 2),
                       .weight = numbers<accumulator_t<T>>(kRows * kLd, 6, 0.5, 1)};
    const std::vector<double> exact = results(table_for(Isa::kRef).f64.mixers, in, d);
    for (int isa = 0; isa <= static_cast<int>(best_isa()); ++isa) {
      const Table& table = table_for(static_cast<Isa>(isa));
      const std::vector<double> got = results(table.of<T>().mixers, in, d);
      ASSERT_EQ(got.size(), exact.size());
      for (size_t i = 0; i < got.size(); ++i)
        ASSERT_LE(std::abs(got[i] - exact[i]), tolerance * (1 + std::abs(exact[i])))
            << name(table.isa) << " d " << d << " number " << i;
    }
  }
}

TEST(MixerKernels, AgreeWithFloat64AtEveryWidth) {
  expect_agreement<float>(4e-6);
  expect_agreement<bfloat16>(5e-3);
}

TEST(MixerKernels, AWeightOfZeroHidesNaN) {
  for (int isa = 0; isa <= static_cast<int>(best_isa()); ++isa) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> s{nan, 2, nan, 4}, weight{0, 1, 0, 0.5f};
    std::vector<float> p(4), sum{1};
    table_for(static_cast<Isa>(isa))
        .f32.mixers.weigh({.rows = 1,
                           .cols = 4,
                           .s = s.data(),
                           .weight = weight.data(),
                           .stride = 4,
                           .p = p.data(),
                           .p_stride = 4,
                           .sum = sum.data()});
    EXPECT_EQ(p, (std::vector<float>{0, 2, 0, 2}));
    EXPECT_EQ(sum[0], 5);
  }
}

}  // namespace
}  // namespace qkv::kernels
