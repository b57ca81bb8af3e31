// How fast the optimizers step: one JSON line each, for one matrix of weights, on random gradients.
//
//   bench/optimizers [--rows 4096] [--columns 4096] [--name adamw] [--seconds 0.5]
//
// Wall-clock time of the best step on QKV_THREADS threads. `bytes` is what the formula has to read and write
// a weight, `gbs` that times weights a second; "copy" beside them is memory's own speed: y = x + 0.3 (x - y)
// with nothing else to do, 12 bytes a weight.

#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>

#include "qkv/base/parallel.h"
#include "qkv/base/philox.h"
#include "qkv/kernels/table.h"
#include "qkv/train/optimizer.h"
#include "qkv/train/optimizers/arithmetic.h"

namespace qkv {
namespace {

// f() of the best of several times; before() is not counted.
template <class F>
double best_seconds(
    double budget, F&& f, const std::function<void()>& before = [] {}) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](auto d) { return std::chrono::duration<double>(d).count(); };
  double best = 1e9;
  for (const auto start = Clock::now(); best == 1e9 || seconds(Clock::now() - start) < budget;) {
    before();
    const auto begin = Clock::now();
    f();
    best = std::min(best, seconds(Clock::now() - begin));
  }
  return best;
}

void report(std::string_view name, int64_t n, double bytes, double seconds) {
  std::printf(
      "{\"bench\":\"optimizers\",\"name\":\"%s\",\"isa\":\"%s\",\"threads\":%d,\"weights\":%ld,\"ms\":%.3f,"
      "\"ns_per_weight\":%.3f",
      std::string(name).c_str(), std::string(qkv::name(isa())).c_str(), threads(), n, seconds * 1e3,
      seconds * 1e9 / static_cast<double>(n));
  if (bytes > 0)
    std::printf(",\"bytes\":%.0f,\"gbs\":%.1f", bytes, bytes * static_cast<double>(n) / seconds * 1e-9);
  std::printf("}\n");
  std::fflush(stdout);
}

// Of the fused ones: the gradient is read, weights and state are read and written. 0: several passes.
double bytes_of(std::string_view name) {
  if (name == "adam" || name == "adamw") return 4 + 8 + 16;
  if (name == "sgd" || name == "lion") return 4 + 8 + 8;
  return 0;
}

void measure(int64_t rows, int64_t columns, std::string_view only, double budget) {
  const int64_t n = rows * columns;
  const auto w = std::make_shared<Parameter>("w", Tensor::zeros({rows, columns}, DType::kF32));
  w->set_decays(true);
  RandomStream random({.seed = 1});
  const Tensor g = Tensor::empty({rows, columns}, DType::kF32);
  for (int64_t i = 0; i < n; ++i) g.data<float>()[i] = static_cast<float>(random.uniform() - 0.5);
  w->grad().copy_from(g);
  w->value().copy_from(g);
  report("copy", n, 12, best_seconds(budget, [&] {
           each_piece(g, [&](int64_t begin, int64_t end) {
             kernels::table().optimizer.approach(end - begin, 0.3f, g.data<float>() + begin,
                                                 w->value().data<float>() + begin);
           });
         }));
  report("grad_norm", n, 4, best_seconds(budget, [&] { sum_squares(g); }));
  for (const OptimizerKind& kind : optimizers()) {
    if (!only.empty() && only != kind.name) continue;
    const auto optimizer = make_optimizer({.name = std::string(kind.name)}, {w});
    // step() ends by making gradients zero, 4 bytes a weight more, which training needs as well.
    const double bytes = bytes_of(kind.name);
    report(kind.name, n, bytes > 0 ? bytes + 4 : 0,
           best_seconds(
               budget, [&] { optimizer->step(1e-6, 1); }, [&] { w->grad().copy_from(g); }));
  }
}

}  // namespace
}  // namespace qkv

int main(int argc, char** argv) {
  int64_t rows = 4096, columns = 4096;
  std::string_view only;
  double budget = 0.5;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view flag = argv[i];
    if (flag == "--rows") rows = std::stol(argv[i + 1]);
    if (flag == "--columns") columns = std::stol(argv[i + 1]);
    if (flag == "--name") only = argv[i + 1];
    if (flag == "--seconds") budget = std::stod(argv[i + 1]);
  }
  qkv::measure(rows, columns, only, budget);
}
