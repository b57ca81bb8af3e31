#include "qkv/tensor/matmul.h"

#include <atomic>

#include "qkv/base/checked.h"
#include "qkv/base/team.h"
#include "qkv/base/trace.h"
#include "qkv/kernels/table.h"
#include "qkv/tensor/quantised_rows.h"

namespace qkv {
namespace {

std::atomic<int64_t> flops{0};

// Tokens per block of a weight gradient: 512 rows of x and y, transposed and packed, stay in the L2 at the
// widths of small models. Fixed, so that the order of the sum never depends on the machine.
constexpr int64_t kReductionBlock = 512;
// Columns of y that are transposed together; threads take them in multiples of the other.
constexpr int64_t kTransposedStrip = 256, kTransposedColumns = 32;

constexpr int64_t kWorthAFork = 32768;  // multiply-adds: a fork costs more than a smaller product

void check_rows(const Tensor& t, const char* what) {
  QKV_CHECK(t.defined() && t.rank() == 2, kShape, "matmul: {} is {}, needs to be a matrix", what,
            t.defined() ? t.shape().str() : "undefined");
  QKV_CHECK(t.stride(1) == 1 || t.size(1) <= 1, kShape, "matmul: {} needs adjacent elements in a row", what);
}

// What an epilogue reads or writes beside out.
void check_lies_like(const Tensor& t, const Tensor& out, const char* what) {
  QKV_CHECK(!t.defined() || (t.shape() == out.shape() && (out.size(0) <= 1 || t.stride(0) == out.stride(0))),
            kShape, "matmul: {} is {} in rows {} apart, needs to lie like out: {}, {} apart", what,
            t.shape().str(), t.rank() > 0 ? t.stride(0) : 0, out.shape().str(), out.stride(0));
}

void check_column_sum(const Tensor& x, const Tensor& sum) {
  QKV_CHECK(!sum.defined() || (sum.is_contiguous() && sum.numel() == x.size(1)), kShape,
            "the sum over the rows of {} does not give {}", x.shape().str(), sum.shape().str());
}

// How threads cut an output [m, n]: by rows or by columns. What is not cut every thread reads: a's m rows, or
// b's n columns.
struct Cut {
  int64_t m, n, block_m, block_n;
  bool by_rows, alone;

  Cut(int64_t m_, int64_t n_, int64_t k, int64_t block_m_, int64_t block_n_)
      : m(m_), n(n_), block_m(block_m_), block_n(block_n_) {
    const int64_t rows_for_all = block_m * threads(), columns_for_all = block_n * threads();
    alone = m * n * k < kWorthAFork;
    by_rows = m >= rows_for_all && (m >= n || n < columns_for_all);
  }
  int64_t team() const {
    return alone ? 1 : by_rows ? ceil_div(m, block_m) : std::max<int64_t>(1, ceil_div(n, block_n));
  }
  // run(row_begin, row_end, column_begin, column_end) for this thread's part.
  template <class Run>
  void share(const Team& us, Run&& run) const {
    if (by_rows)
      us.share(m, block_m, [&](int64_t begin, int64_t end) { run(begin, end, int64_t{0}, n); });
    else
      us.share(n, block_n, [&](int64_t begin, int64_t end) { run(int64_t{0}, m, begin, end); });
  }
};

// Whether two dtypes of tensors have 8-bit products.
void check_int8(DType dtype) {
  QKV_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, kDtype,
            "8-bit products take and give f32 or bf16, not {}", name(dtype));
}

void matmul_int8(const Tensor& a, const PackedMatrix& b, const Tensor& out, const MatmulOptions& options) {
  QKV_CHECK(!options.pre_activation.defined() && !options.derivative_at.defined() && !options.accumulate,
            kUnsupported, "matmul: 8-bit weights are for running, not for training");
  check_int8(out.dtype());
  const int64_t m = a.size(0), k = b.k, n = b.n;
  // Rows of integers an odd number of cache lines apart, as for transposed copies below.
  const int64_t ldq = round_up(k, 64) / 64 % 2 ? round_up(k, 64) : round_up(k, 64) + 64;
  const auto integers = Buffer::allocate(std::max<int64_t>(1, m * ldq));
  const Tensor a_scales = Tensor::empty({m}, DType::kF32), a_zeros = Tensor::empty({m}, DType::kI32);
  int8_t* const q = reinterpret_cast<int8_t*>(integers->data());
  float* const scales = a_scales.data<float>();
  int32_t* const zeros = a_zeros.data<int32_t>();
  const auto multiply = [&]<class In, class Out>(In, Out) {
    const auto quantise_rows = kernels::table().of<In>().int8.quantise_rows;
    const auto& int8 = kernels::table().of<Out>().int8;
    const In* const rows = a.data<In>();
    Out* const c = out.data<Out>();
    const Out* const residual = options.residual.defined() ? options.residual.data<Out>() : nullptr;
    const float *const b_scales = b.scales.data<float>(), *const bias = options.bias.defined()
                                                                            ? options.bias.data<float>()
                                                                            : nullptr;
    const auto quantise = [&](int64_t begin, int64_t end) {
      quantise_rows(end - begin, k, rows + begin * a.stride(0), a.stride(0), q + begin * ldq, ldq,
                    scales + begin, zeros + begin);
    };
    const auto run = [&](int64_t m0, int64_t m1, int64_t n0, int64_t n1) {
      int8.run({.m = m1 - m0,
                .n = n,
                .k = k,
                .a = q + m0 * ldq,
                .lda = ldq,
                .a_scales = scales + m0,
                .a_zeros = zeros + m0,
                .b = b.data->data(),
                .b_scales = b_scales,
                .n_begin = n0,
                .n_end = n1,
                .c = c + m0 * out.stride(0),
                .ldc = out.stride(0),
                .bias = bias,
                .activation = options.activation,
                .residual = residual ? residual + m0 * out.stride(0) : nullptr});
    };
    const Cut cut(m, n, k, int8.block_m, int8.block_n);
    in_step(cut.team(), [&](const Team& us) noexcept {
      if (cut.by_rows) {  // rows become integers where they are multiplied
        us.share(m, cut.block_m, quantise);
      } else {
        us.share(m, 1, quantise);
        us.meet();
      }
      cut.share(us, run);
    });
  };
  const auto into = [&]<class In>(In in) {
    out.dtype() == DType::kF32 ? multiply(in, float{}) : multiply(in, bfloat16{});
  };
  a.dtype() == DType::kF32 ? into(float{}) : into(bfloat16{});
}

// As [m, k] [k, n] is written for short.
std::string product_text(int64_t m, int64_t k, int64_t n, std::string_view numbers) {
  return fmt::format("{}x{}x{} {}", m, k, n, numbers);
}

void multiply_transposed(const Tensor& y, const Tensor& x, const Tensor& out, const Tensor& column_sum,
                         bool accumulate) {
  check_rows(y, "y");
  check_rows(x, "x");
  check_rows(out, "out");
  const int64_t m = y.size(0), n = y.size(1), k = x.size(1);
  QKV_CHECK(x.size(0) == m && out.size(0) == n && out.size(1) == k, kShape,
            "transposed_product: {}^T {} does not give {}", y.shape().str(), x.shape().str(),
            out.shape().str());
  check_column_sum(y, column_sum);
  const trace::Span span("weight_grad", trace::Kind::kKernel);
  span.note([&] { return product_text(n, m, k, name(y.dtype())); });
  trace::count_bytes(y.n_bytes() + x.n_bytes() + (accumulate ? 2 : 1) * out.n_bytes() +
                     (column_sum.defined() ? 2 * column_sum.n_bytes() : 0));
  count_flops(2 * m * n * k);
  if (m == 0 && !accumulate) return out.fill(0);
  kernels::visit_dtype(y.dtype(), [&]<class T>(T) {
    const auto& gemm = kernels::table().of<T>().gemm;
    const auto add_columns = kernels::table().of<T>().rows.column_sum;
    const int64_t block = std::min(m, kReductionBlock);
    // Rows of the transposed copy stand an odd number of cache lines apart: a power of two would map a column
    // of tiles to one L1 set.
    const int64_t ldt = round_up(block, 64) + 32;
    const int64_t team =
        m * n * k < kWorthAFork ? 1 : std::min<int64_t>(threads(), n / kTransposedColumns + 1);
    const auto transposed = Buffer::allocate(team * kTransposedStrip * ldt * static_cast<int64_t>(sizeof(T)));
    const int64_t packed_bytes = round_up(gemm.packed_bytes(block, k), 64);
    const auto packed = Buffer::allocate(2 * packed_bytes);
    // Outside of the team's work, which must not throw.
    const T *const y_all = y.data<T>(), *const x_all = x.data<T>();
    accumulator_t<T>* const c_all = out.data<accumulator_t<T>>();
    accumulator_t<T>* const sum_all = column_sum.defined() ? column_sum.data<accumulator_t<T>>() : nullptr;
    in_step(team, [&](const Team& us) noexcept {
      T* const yt = reinterpret_cast<T*>(transposed->data()) + us.thread() * kTransposedStrip * ldt;
      // x is packed by all for all, in two buffers in turn: whoever packs one has met everybody since they
      // last used it. y is transposed by whom it concerns, a strip at a time that stays in the L2.
      std::byte *x_packed = packed->data(), *x_before = x_packed + packed_bytes;
      for (int64_t begin = 0; begin < m; begin += block, std::swap(x_packed, x_before)) {
        const int64_t rows = std::min(block, m - begin);
        const T* ys = y_all + begin * y.stride(0);
        us.share(k, gemm.block_n, [&](int64_t c0, int64_t c1) {
          gemm.pack_b({.k = rows,
                       .n = k,
                       .src = x_all + begin * x.stride(0),
                       .src_is_t = true,
                       .row_stride = x.stride(0),
                       .col_stride = 1,
                       .dst = x_packed,
                       .n_begin = c0,
                       .n_end = c1});
        });
        us.meet();
        us.share(n, kTransposedColumns, [&](int64_t mine, int64_t end) {
          for (int64_t r0 = mine; r0 < end; r0 += kTransposedStrip) {
            const int64_t r1 = std::min(end, r0 + kTransposedStrip);
            gemm.transpose(rows, r1 - r0, ys + r0, y.stride(0), yt, ldt);
            if (sum_all) add_columns(rows, r1 - r0, ys + r0, y.stride(0), sum_all + r0);
            gemm.run({.m = r1 - r0,
                      .n = k,
                      .k = rows,
                      .a = yt,
                      .lda = ldt,
                      .b = x_packed,
                      .n_begin = 0,
                      .n_end = k,
                      .ldc = out.stride(0),
                      .c_acc = c_all + r0 * out.stride(0),
                      .accumulate = accumulate || begin > 0});
          }
        });
      }
    });
  });
}

}  // namespace

std::string_view name(const Precision& precision) { return precision.int8 ? "int8" : name(precision.dtype); }

int64_t flop_count() { return flops.load(std::memory_order_relaxed); }
void count_flops(int64_t n) {
  flops.fetch_add(n, std::memory_order_relaxed);
  trace::count_flops(n);
}

PackedMatrix pack_matrix(const Tensor& b, DType compute) {
  const trace::Span span("pack", trace::Kind::kKernel);
  QKV_CHECK(b.defined() && b.rank() == 2, kShape, "pack_matrix: needs a matrix");
  QKV_CHECK(b.dtype() == compute || b.dtype() == accumulator_dtype(compute), kDtype,
            "pack_matrix: cannot pack {} for {}", name(b.dtype()), name(compute));
  PackedMatrix packed{.k = b.size(0), .n = b.size(1), .dtype = compute, .data = nullptr};
  kernels::visit_dtype(compute, [&]<class T>(T) {
    const auto& gemm = kernels::table().of<T>().gemm;
    packed.data = Buffer::allocate(gemm.packed_bytes(packed.k, packed.n));
    span.note([&] { return fmt::format("{}x{} {}", packed.k, packed.n, name(compute)); });
    trace::count_bytes(b.n_bytes() + packed.data->bytes());
    const bool is_t = b.dtype() == compute;
    const void* src =
        is_t ? static_cast<const void*>(b.data<T>()) : static_cast<const void*>(b.data<accumulator_t<T>>());
    parallel_for(packed.n,
                 round_up(std::max<int64_t>(1, 4096 / std::max<int64_t>(1, packed.k)), gemm.block_n),
                 [&](int64_t begin, int64_t end) {
                   gemm.pack_b({.k = packed.k,
                                .n = packed.n,
                                .src = src,
                                .src_is_t = is_t,
                                .row_stride = b.stride(0),
                                .col_stride = b.stride(1),
                                .dst = packed.data->data(),
                                .n_begin = begin,
                                .n_end = end});
                 });
  });
  return packed;
}

PackedMatrix pack_matrix_int8(const Tensor& b, DType compute) {
  const trace::Span span("pack", trace::Kind::kKernel);
  QKV_CHECK(b.defined() && b.rank() == 2, kShape, "pack_matrix_int8: needs a matrix");
  check_int8(compute);
  QKV_CHECK(b.size(0) <= kernels::kInt8Depth, kShape,
            "pack_matrix_int8: sums over {} may overflow, {} may not", b.size(0), kernels::kInt8Depth);
  const QuantisedRows w = quantise_rows(b.transpose(0, 1));
  const auto& int8 = kernels::table().f32.int8;
  PackedMatrix packed{.k = w.k,
                      .n = w.n,
                      .dtype = compute,
                      .data = Buffer::allocate(std::max<int64_t>(1, int8.packed_bytes(w.k, w.n))),
                      .scales = w.scales};
  parallel_for(w.n, int8.block_n, [&](int64_t begin, int64_t end) {
    int8.pack_b({.k = w.k,
                 .n = w.n,
                 .src = w.row(0),
                 .lds = w.k,
                 .dst = packed.data->data(),
                 .n_begin = begin,
                 .n_end = end});
  });
  return packed;
}

PackedMatrix pack_matrix(const Tensor& b, const Precision& compute) {
  return compute.int8 ? pack_matrix_int8(b, compute.dtype) : pack_matrix(b, compute.dtype);
}

void matmul(const Tensor& a, const PackedMatrix& b, const Tensor& out, const MatmulOptions& options) {
  check_rows(a, "a");
  check_rows(out, "out");
  const int64_t m = a.size(0), k = a.size(1), n = b.n;
  QKV_CHECK(k == b.k && out.size(0) == m && out.size(1) == n, kShape,
            "matmul: {} times [{}, {}] does not give {}", a.shape().str(), b.k, b.n, out.shape().str());
  QKV_CHECK(a.dtype() == b.dtype, kDtype, "matmul: a is {}, b was packed for {}", name(a.dtype()),
            name(b.dtype));
  const Tensor &bias = options.bias, &pre = options.pre_activation;
  QKV_CHECK(!bias.defined() || (bias.numel() == n && bias.is_contiguous()), kShape,
            "matmul: bias is {}{}, needs {} elements", bias.shape().str(),
            bias.is_contiguous() ? "" : " (strided)", n);
  check_lies_like(pre, out, "pre_activation");
  check_lies_like(options.residual, out, "residual");
  check_lies_like(options.derivative_at, out, "derivative_at");
  const Tensor& beside = options.derivative_at.defined() ? options.derivative_at : options.residual;
  const bool forward = bias.defined() || pre.defined() || options.residual.defined();
  QKV_CHECK(!options.derivative_at.defined() || (!forward && !options.accumulate), kUnsupported,
            "matmul: derivative_at goes with neither bias, pre_activation, residual nor accumulate");
  QKV_CHECK(!options.accumulate || (!forward && options.activation == Activation::kNone), kUnsupported,
            "matmul: accumulate goes with neither bias, activation, pre_activation nor residual");
  const trace::Span span("matmul", trace::Kind::kKernel);
  span.note([&] { return product_text(m, k, n, b.scales.defined() ? "int8" : name(b.dtype)); });
  trace::count_bytes(a.n_bytes() + b.data->bytes() + out.n_bytes() * (options.accumulate ? 2 : 1) +
                     (pre.defined() ? pre.n_bytes() : 0) + (beside.defined() ? beside.n_bytes() : 0));
  count_flops(2 * m * n * k);
  if (b.scales.defined()) return matmul_int8(a, b, out, options);
  kernels::visit_dtype(b.dtype, [&]<class T>(T) {
    using A = accumulator_t<T>;
    const auto& gemm = kernels::table().of<T>().gemm;
    kernels::Gemm<T> args{.m = m,
                          .n = n,
                          .k = k,
                          .a = a.data<T>(),
                          .lda = a.stride(0),
                          .b = b.data->data(),
                          .n_begin = 0,
                          .n_end = n,
                          .ldc = out.stride(0),
                          .accumulate = options.accumulate,
                          .activation = options.activation};
    if (out.dtype() == dtype_of<T>::value && !options.accumulate)
      args.c = out.data<T>();
    else
      args.c_acc = out.data<A>();
    if (bias.defined()) args.bias = bias.data<A>();
    if (pre.defined()) args.pre = pre.data<T>();
    if (options.residual.defined()) args.residual = options.residual.data<T>();
    if (options.derivative_at.defined()) args.derivative_at = options.derivative_at.data<T>();
    const Cut cut(m, n, k, gemm.block_m, gemm.block_n);
    const auto run = [&](int64_t m0, int64_t m1, int64_t n0, int64_t n1) {
      kernels::Gemm<T> part = args;
      part.m = m1 - m0;
      part.n_begin = n0;
      part.n_end = n1;
      part.a += m0 * args.lda;
      if (part.c) part.c += m0 * args.ldc;
      if (part.c_acc) part.c_acc += m0 * args.ldc;
      if (part.pre) part.pre += m0 * args.ldc;
      if (part.residual) part.residual += m0 * args.ldc;
      if (part.derivative_at) part.derivative_at += m0 * args.ldc;
      gemm.run(part);
    };
    in_step(cut.team(), [&](const Team& us) noexcept { cut.share(us, run); });
  });
}

void transposed_product(const Tensor& y, const Tensor& x, const Tensor& out, const Tensor& column_sum) {
  multiply_transposed(y, x, out, column_sum, false);
}
void add_transposed_product(const Tensor& y, const Tensor& x, const Tensor& out, const Tensor& column_sum) {
  multiply_transposed(y, x, out, column_sum, true);
}

void add_column_sum(const Tensor& x, const Tensor& out) {
  check_rows(x, "x");
  QKV_CHECK(out.defined(), kShape, "add_column_sum: into nothing");
  check_column_sum(x, out);
  const trace::Span span("bias_grad", trace::Kind::kKernel);
  trace::count_bytes(x.n_bytes() + 2 * out.n_bytes());
  kernels::visit_dtype(x.dtype(), [&]<class T>(T) {
    const auto& rows = kernels::table().of<T>().rows;
    parallel_for(x.size(1), 64, [&](int64_t begin, int64_t end) {
      rows.column_sum(x.size(0), end - begin, x.data<T>() + begin, x.stride(0),
                      out.data<accumulator_t<T>>() + begin);
    });
  });
}

}  // namespace qkv
