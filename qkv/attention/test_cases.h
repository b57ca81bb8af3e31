#pragma once
// What the tests of this folder share: random problems, every score, and comparison of results.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "qkv/attention/attention.h"
#include "qkv/autograd/gradcheck.h"
#include "qkv/base/parallel.h"
#include "qkv/kernels/amx/gemm_emulated.h"

namespace qkv::test {

/// Every family that this machine runs, and AMX's products in emulation, so that every machine checks them.
inline std::vector<const kernels::Table*> tables() {
  static const kernels::Table emulated_amx = [] {
    kernels::Table t = kernels::table_for(best_isa());
    t.isa = Isa::kAmx;
    t.bf16.gemm = kernels::amx::emulated::kernels(kernels::table_for(Isa::kRef).bf16.gemm);
    return t;
  }();
  std::vector<const kernels::Table*> all{&emulated_amx};
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i)
    all.push_back(&kernels::table_for(static_cast<Isa>(i)));
  return all;
}

/// Thousands of small calls, as finite differences make, are faster on one thread than handed to several.
class OneThread {
 public:
  OneThread() : before_(threads()) { set_threads(1); }
  ~OneThread() { set_threads(before_); }

 private:
  int before_;
};

struct Shapes {
  HeadSizes heads{.n_heads = 4, .n_kv_heads = 2, .d_k = 6, .d_v = 10};
  std::vector<int64_t> q_lengths{1, 5, 7, 63, 64, 65, 130, 0, 3};
  std::vector<int64_t> kv_lengths;  // empty: q_lengths
  const std::vector<int64_t>& keys() const { return kv_lengths.empty() ? q_lengths : kv_lengths; }
};

/// q, k, v as columns of wider tensors, so that rows are strided.
struct Inputs {
  Segments queries, keys;
  Tensor q, k, v;
};
inline Inputs random_inputs(const Shapes& s, DType dtype, uint64_t seed = 1, double scale = 1) {
  Inputs in{.queries = Segments(s.q_lengths), .keys = Segments(s.keys()), .q = {}, .k = {}, .v = {}};
  const int64_t wq = s.heads.n_heads * s.heads.d_k, wk = s.heads.kv_heads() * s.heads.d_k,
                wv = s.heads.kv_heads() * s.heads.value_width();
  in.q = random_tensor({in.queries.n_tokens(), wq + 3}, seed, dtype, scale).columns(3, wq + 3);
  const Tensor kv = random_tensor({in.keys.n_tokens(), wk + wv}, seed + 1, dtype, scale);
  in.k = kv.columns(0, wk);
  in.v = kv.columns(wk, wk + wv);
  return in;
}

struct Outcome {
  Tensor out, dq, dk, dv;
};
/// Forward and backward under a fixed gradient.
inline Outcome run(const Inputs& in, const AttentionOptions& options) {
  const Var q(in.q, true), k(in.k, true), v(in.v, true);
  const Var out = attention(q, k, v, in.queries, in.keys, options);
  backward(out, random_tensor(out.value().shape(), 77, out.dtype()));
  const auto grad = [](const Var& x) {
    return x.grad().defined() ? x.grad() : Tensor::zeros(x.value().shape(), x.dtype());
  };
  return {out.value(), grad(q), grad(k), grad(v)};
}

/// NaN where one side alone has a NaN or an infinity.
inline double max_difference(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.shape(), b.shape());
  const std::vector<double> x = a.values(), y = b.values();
  double most = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;
    const double difference = std::abs(x[i] - y[i]);
    if (!std::isfinite(difference)) return std::nan("");
    most = std::max(most, difference);
  }
  return most;
}

inline void expect_equal_bits(const Tensor& a, const Tensor& b, const std::string& what) {
  ASSERT_EQ(a.shape(), b.shape()) << what;
  EXPECT_EQ(a.values(), b.values()) << what;
}

inline void expect_close(const Outcome& a, const Outcome& b, double tolerance, const std::string& what) {
  EXPECT_LE(max_difference(a.out, b.out), tolerance) << what << " out";
  EXPECT_LE(max_difference(a.dq, b.dq), tolerance) << what << " dq";
  EXPECT_LE(max_difference(a.dk, b.dk), tolerance) << what << " dk";
  EXPECT_LE(max_difference(a.dv, b.dv), tolerance) << what << " dv";
}

inline kernels::Dropout dropout(double p, uint64_t seed = 5) {
  return {.key = {.seed = seed, .stream = 2, .step = 3}, .threshold = kernels::Dropout::threshold_of(p)};
}

}  // namespace qkv::test
