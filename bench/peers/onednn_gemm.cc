// The products of `qkv bench gemm` by oneDNN: the same shapes, random numbers, stopwatch and line.
//
//   onednn_gemm --dtype bf16 --threads 2 --json
//
// Each weight lies beforehand as oneDNN wants it for that shape (format_tag::any and a reorder). f32: all of
// f32; bf16: all of bf16; int8: s8 rows times s8 weights, a scale for all rows and one for each column, to
// bf16. The rows are in 8 bits before the clock starts, which `qkv bench gemm` does within it: this side is
// favoured. Before a shape is timed, a row of its result is compared with qkv's.
// `impl` is the kernel that oneDNN chose; `isa` and the roofline are what qkv measures on the machine.

#include <fmt/core.h>
#include <omp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#include <vector>

#include "apps/cli/bench_gemm.h"
#include "apps/cli/bench_timing.h"
#include "qkv/autograd/gradcheck.h"
#include "qkv/base/parallel.h"
#include "qkv/tasks/translation_model.h"

namespace qkv::cli {
namespace {

using dnnl::memory;
using Type = memory::data_type;
using Tag = memory::format_tag;

Type type_of(DType dtype) { return dtype == DType::kBF16 ? Type::bf16 : Type::f32; }

// Numbers in -127 .. 127 and what makes them again: x ~ scale q.
struct Quantised {
  std::vector<int8_t> q;
  std::vector<float> scales;
};

// x [rows, columns] in groups of its columns, or all in one.
Quantised quantise(const Tensor& x, bool by_column) {
  const int64_t columns = x.size(1), groups = by_column ? columns : 1;
  const std::vector<double> values = x.values();
  Quantised out{.q = std::vector<int8_t>(values.size()),
                .scales = std::vector<float>(static_cast<size_t>(groups))};
  const auto scale = [&](size_t i) -> float& {
    return out.scales[by_column ? i % static_cast<size_t>(columns) : 0];
  };
  for (size_t i = 0; i < values.size(); ++i)
    scale(i) = std::max(scale(i), static_cast<float>(std::abs(values[i]) / 127));
  for (size_t i = 0; i < values.size(); ++i)
    out.q[i] = static_cast<int8_t>(std::lrint(values[i] / static_cast<double>(scale(i))));
  return out;
}

class OneDnn {
 public:
  // c [m, n] = a [m, k] w [k, n]; the tensors outlive this.
  OneDnn(const Tensor& a, const Tensor& w, const Tensor& c, const Precision& precision) {
    const int64_t m = a.size(0), k = a.size(1), n = w.size(1);
    const Type in = precision.int8 ? Type::s8 : type_of(precision.dtype);
    const memory::desc a_desc({m, k}, in, Tag::ab), b_desc({k, n}, in, Tag::any),
        c_desc({m, n}, type_of(c.dtype()), Tag::ab);
    void *a_data = a.bytes(), *w_data = w.bytes();
    Quantised w_q;
    if (precision.int8) {
      a_q_ = quantise(a, false);
      w_q = quantise(w, true);
      a_data = a_q_.q.data();
      w_data = w_q.q.data();
    }
    const auto chosen = describe(a_desc, b_desc, c_desc, w_q.scales);
    impl_ = chosen.impl_info_str();
    product_ = dnnl::matmul(chosen);

    memory plain({{k, n}, precision.int8 ? Type::s8 : type_of(w.dtype()), Tag::ab}, engine_, w_data);
    memory b(chosen.weights_desc(), engine_);
    dnnl::reorder(plain, b).execute(stream_, plain, b);
    stream_.wait();
    b_bytes_ = static_cast<int64_t>(chosen.weights_desc().get_size());
    arguments_.insert({{DNNL_ARG_SRC, memory(a_desc, engine_, a_data)},
                       {DNNL_ARG_WEIGHTS, b},
                       {DNNL_ARG_DST, memory(c_desc, engine_, c.bytes())}});
  }

  void run() {
    product_.execute(stream_, arguments_);
    stream_.wait();
  }

  const std::string& impl() const { return impl_; }
  int64_t b_bytes() const { return b_bytes_; }

 private:
  // Scales became arguments of a call with version 3.
  dnnl::matmul::primitive_desc describe(const memory::desc& a, const memory::desc& b, const memory::desc& c,
                                        std::vector<float> w_scales) {
    dnnl::primitive_attr attributes;
#if DNNL_VERSION_MAJOR >= 3
    const auto add_scales = [&](int argument, int mask, const std::vector<float>& scales) {
      attributes.set_scales_mask(argument, mask);
      memory held({{static_cast<int64_t>(scales.size())}, Type::f32, Tag::a}, engine_);
      std::copy(scales.begin(), scales.end(), static_cast<float*>(held.get_data_handle()));
      arguments_.insert({DNNL_ARG_ATTR_SCALES | argument, held});
    };
    if (!w_scales.empty()) {
      add_scales(DNNL_ARG_SRC, 0, a_q_.scales);
      add_scales(DNNL_ARG_WEIGHTS, 1 << 1, w_scales);
    }
    return {engine_, a, b, c, attributes};
#else
    for (float& scale : w_scales) scale *= a_q_.scales[0];
    if (!w_scales.empty()) attributes.set_output_scales(1 << 1, w_scales);
    return {{a, b, c}, attributes, engine_};
#endif
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  Quantised a_q_;
  std::unordered_map<int, memory> arguments_;
  dnnl::matmul product_;
  std::string impl_;
  int64_t b_bytes_ = 0;
};

// Both did the same product: their first rows differ by no more than rounding, in parts of the row's size.
void check_row(const Tensor& a, const Tensor& w, const Tensor& c, const Precision& precision) {
  const Tensor ours = Tensor::empty({1, c.size(1)}, c.dtype());
  matmul(a.rows(0, 1), pack_matrix(w, precision), ours);
  const std::vector<double> x = ours.values(), y = c.rows(0, 1).values();
  double difference = 0, size = 0;
  for (size_t j = 0; j < x.size(); ++j) {
    difference += (x[j] - y[j]) * (x[j] - y[j]);
    size += x[j] * x[j];
  }
  const double off = std::sqrt(difference / size), most = precision.int8                    ? 0.05
                                                          : precision.dtype == DType::kBF16 ? 0.01
                                                                                            : 1e-4;
  QKV_CHECK(off < most, kInternal,
            "{} x {} x {}: results differ by {:.2g} of their size, at most {} is rounding", a.size(0),
            w.size(0), w.size(1), off, most);
}

void bench(const std::string& shape, const Precision& precision, bool json) {
  const DType dtype = precision.dtype;
  for (const Products& p : products_of(shape)) {
    const Tensor w = random_tensor({p.k, p.n}, 2, DType::kF32);
    for (const int64_t m : p.m) {
      const Tensor a = random_tensor({m, p.k}, 1, dtype), c = Tensor::zeros({m, p.n}, dtype);
      OneDnn product(a, w, c, precision);
      product.run();
      check_row(a, w, c, precision);
      const int64_t operations = 2 * m * p.k * p.n;
      const std::string text = fmt::format("{}x{}x{}", m, p.k, p.n);
      print_case({.name = fmt::format("onednn gemm {} {}", text, name(precision)),
                  .shape = text,
                  .precision = precision,
                  .work = 1e-9 * static_cast<double>(operations),
                  .bytes = static_cast<double>((precision.int8 ? m * p.k : a.n_bytes()) + product.b_bytes() +
                                               c.n_bytes()),
                  .more = {{"impl", product.impl()},
                           {"onednn", fmt::format("{}.{}.{}", DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR,
                                                  DNNL_VERSION_PATCH)}}},
                 timed([&] {
                   product.run();
                   count_flops(operations);
                 }),
                 json);
    }
  }
}

}  // namespace
}  // namespace qkv::cli

int main(int argc, char** argv) {
  std::string shape, dtype = "auto";
  int threads = omp_get_max_threads();
  bool json = false;
  CLI::App app{"oneDNN's matrix products, as `qkv bench gemm` measures qkv's."};
  app.add_option("--shape", shape, "MxKxN; without it, thirty of them");
  app.add_option("--dtype", dtype, "bf16, f32, int8 (s8 x s8), or auto: bf16 where the CPU has a unit for it")
      ->capture_default_str();
  app.add_option("-t,--threads", threads)->capture_default_str()->check(CLI::Range(1, 4096));
  app.add_flag("--json", json, "one JSON object a line");
  app.footer("Example:\n  onednn_gemm --shape 512x768x3072 --dtype int8 --threads 2 --json");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  try {
    omp_set_num_threads(threads);
    qkv::set_threads(threads);
    qkv::cli::bench(shape, qkv::precision_from_name(dtype), json);
  } catch (const qkv::Error& e) {
    fmt::print(stderr, "onednn_gemm: {}\n", e.what());
    return e.code() == qkv::ErrorCode::kValue ? 2 : 1;
  } catch (const std::exception& e) {
    fmt::print(stderr, "onednn_gemm: {}\n", e.what());
    return 1;
  }
  return 0;
}
