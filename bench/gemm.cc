// How fast the dense products are: one JSON line per family, type and shape, single-threaded, on random data.
//
//   bench/gemm [--isa avx512] [--dtype bf16] [--shape m,k,n] [--seconds 0.2]
//
// Times are the best of many calls, in CPU time: other work on the machine only ever adds. Weights are packed
// from float masters [n, k], rows from activations [k, n]; the transposition is of a [m, k].

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/base/memory.h"
#include "qkv/base/philox.h"
#include "qkv/kernels/table.h"

namespace qkv {
namespace {

using kernels::Gemm;
using kernels::PackB;

struct Shape {
  int64_t m, k, n;
};

/// CPU time of this thread: what other programs take of the core is not counted.
double now() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

template <class F>
double best_seconds(double budget, F&& f) {
  f();
  double begin = now();
  f();
  // The clock itself takes part of a microsecond: short calls are timed many together.
  const int calls = std::max(1, static_cast<int>(1e-4 / std::max(1e-7, now() - begin)));
  double best = 1e9;
  for (const double end = now() + budget; now() < end;) {
    begin = now();
    for (int i = 0; i < calls; ++i) f();
    best = std::min(best, (now() - begin) / calls);
  }
  return best;
}

template <class T>
T* random(std::vector<std::shared_ptr<Buffer>>& keep, int64_t count, uint32_t stream) {
  keep.push_back(Buffer::allocate(count * static_cast<int64_t>(sizeof(T))));
  T* p = reinterpret_cast<T*>(keep.back()->data());
  RandomStream numbers({.seed = 1, .stream = stream});
  for (int64_t i = 0; i < count; ++i) p[i] = static_cast<T>(static_cast<float>(numbers.uniform() * 2 - 1));
  return p;
}

template <class T>
void measure(const kernels::Table& table, const Shape& s, double budget) {
  using A = accumulator_t<T>;
  const auto& gemm = table.of<T>().gemm;
  std::vector<std::shared_ptr<Buffer>> keep;
  const T* a = random<T>(keep, s.m * s.k, 1);
  const A* w = random<A>(keep, s.k * s.n, 2);
  const T* x = random<T>(keep, s.k * s.n, 3);
  const A* bias = random<A>(keep, s.n, 4);
  T* c = random<T>(keep, s.m * s.n, 5);
  T* pre = random<T>(keep, s.m * s.n, 6);
  A* c_acc = random<A>(keep, s.m * s.n, 7);
  T* at = random<T>(keep, s.m * s.k, 8);
  keep.push_back(Buffer::allocate(gemm.packed_bytes(s.k, s.n)));
  void* b = keep.back()->data();

  const PackB<T> pack{
      .k = s.k, .n = s.n, .src = w, .row_stride = 1, .col_stride = s.k, .dst = b, .n_begin = 0, .n_end = s.n};
  PackB<T> pack_rows = pack;
  pack_rows.src = x, pack_rows.src_is_t = true, pack_rows.row_stride = s.n, pack_rows.col_stride = 1;
  const double pack_w = best_seconds(budget / 8, [&] { gemm.pack_b(pack); });
  const double pack_x = best_seconds(budget / 8, [&] { gemm.pack_b(pack_rows); });
  const double transpose = best_seconds(budget / 8, [&] { gemm.transpose(s.m, s.k, a, s.k, at, s.m); });

  Gemm<T> g{.m = s.m, .n = s.n, .k = s.k, .a = a, .lda = s.k, .b = b, .n_begin = 0, .n_end = s.n, .ldc = s.n};
  const auto time = [&](auto change) {
    Gemm<T> call = g;
    change(call);
    return best_seconds(budget, [&] { gemm.run(call); });
  };
  const double plain = time([&](auto& call) { call.c = c; });
  const double biased = time([&](auto& call) { call.c = c, call.bias = bias; });
  const double gelu = time([&](auto& call) {
    call.c = c, call.bias = bias, call.pre = pre, call.activation = kernels::Activation::kGelu;
  });
  const double sums = time([&](auto& call) { call.c_acc = c_acc; });
  const double added = time([&](auto& call) { call.c_acc = c_acc, call.accumulate = true; });
  const double flop = 2.0 * s.m * s.k * s.n;
  std::printf(
      "{\"bench\":\"gemm\",\"isa\":\"%s\",\"dtype\":\"%s\",\"m\":%ld,\"k\":%ld,\"n\":%ld,\"us\":%.2f,"
      "\"gflops\":%.1f,"
      "\"gflops_bias\":%.1f,\"gflops_gelu_pre\":%.1f,\"gflops_float_out\":%.1f,\"gflops_accumulate\":%.1f,"
      "\"pack_weight_gbs\":%.2f,\"pack_rows_gbs\":%.2f,\"transpose_gbs\":%.2f}\n",
      std::string(name(table.isa)).c_str(), std::string(name(dtype_of<T>::value)).c_str(), s.m, s.k, s.n,
      plain * 1e6, flop / plain * 1e-9, flop / biased * 1e-9, flop / gelu * 1e-9, flop / sums * 1e-9,
      flop / added * 1e-9, s.k * s.n * sizeof(A) / pack_w * 1e-9, s.k * s.n * sizeof(T) / pack_x * 1e-9,
      s.m * s.k * sizeof(T) / transpose * 1e-9);
  std::fflush(stdout);
}

}  // namespace
}  // namespace qkv

int main(int argc, char** argv) {
  using namespace qkv;
  std::vector<Shape> shapes = {{4096, 256, 768},  {4096, 256, 1024}, {4096, 1024, 256}, {4096, 384, 1536},
                               {4096, 1536, 384}, {512, 384, 384},   {512, 256, 8192},  {512, 8192, 256},
                               {1536, 4096, 384}, {1, 384, 1536},    {1, 256, 8192},    {4, 384, 1536},
                               {16, 384, 1536},   {64, 384, 1536},   {16, 64, 64},      {32, 32, 64},
                               {64, 64, 64}};
  std::string isa_name, dtype;
  double budget = 0.2;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view flag = argv[i];
    if (flag == "--isa") isa_name = argv[i + 1];
    if (flag == "--dtype") dtype = argv[i + 1];
    if (flag == "--seconds") budget = std::stod(argv[i + 1]);
    if (flag == "--shape") {
      Shape s{};
      if (std::sscanf(argv[i + 1], "%ld,%ld,%ld", &s.m, &s.k, &s.n) == 3) shapes = {s};
    }
  }
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
    const Isa isa = static_cast<Isa>(i);
    if (isa_name.empty() ? isa == Isa::kRef : name(isa) != isa_name) continue;
    for (const Shape& s : shapes) {
      if (dtype.empty() || dtype == "f32") measure<float>(kernels::table_for(isa), s, budget);
      if (dtype.empty() || dtype == "bf16") measure<bfloat16>(kernels::table_for(isa), s, budget);
    }
  }
}
