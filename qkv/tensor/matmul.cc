#include "qkv/tensor/matmul.h"

#include <atomic>

#include "qkv/base/checked.h"
#include "qkv/base/parallel.h"
#include "qkv/kernels/table.h"

namespace qkv {
namespace {

std::atomic<int64_t> flops{0};

// Tokens per block of a weight gradient: 512 rows of x and y, transposed and packed, stay in the L2 at the
// widths of small models. Fixed, so that the order of the sum never depends on the machine.
constexpr int64_t kReductionBlock = 512;

void check_rows(const Tensor& t, const char* what) {
  QKV_CHECK(t.defined() && t.rank() == 2, kShape, "matmul: {} is {}, needs to be a matrix", what,
            t.defined() ? t.shape().str() : "undefined");
  QKV_CHECK(t.stride(1) == 1 || t.size(1) <= 1, kShape, "matmul: {} needs adjacent elements in a row", what);
}

}  // namespace

int64_t flop_count() { return flops.load(std::memory_order_relaxed); }
void count_flops(int64_t n) { flops.fetch_add(n, std::memory_order_relaxed); }

PackedMatrix pack_matrix(const Tensor& b, DType compute) {
  QKV_CHECK(b.defined() && b.rank() == 2, kShape, "pack_matrix: needs a matrix");
  QKV_CHECK(b.dtype() == compute || b.dtype() == accumulator_dtype(compute), kDtype,
            "pack_matrix: cannot pack {} for {}", name(b.dtype()), name(compute));
  PackedMatrix packed{.k = b.size(0), .n = b.size(1), .dtype = compute, .data = nullptr};
  kernels::visit_dtype(compute, [&]<class T>(T) {
    const auto& gemm = kernels::table().of<T>().gemm;
    packed.data = Buffer::allocate(gemm.packed_bytes(packed.k, packed.n));
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
  QKV_CHECK(!pre.defined() || (pre.shape() == out.shape() && pre.stride(0) == out.stride(0)), kShape,
            "matmul: pre_activation is {} in rows {} apart, needs to lie like out: {}, {} apart",
            pre.shape().str(), pre.rank() > 0 ? pre.stride(0) : 0, out.shape().str(), out.stride(0));
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
    count_flops(2 * m * n * k);

    const int64_t work = m * n * k;
    if (work < 32768) {  // a fork costs more than this product
      gemm.run(args);
    } else if (m >= gemm.block_m * threads()) {
      parallel_for(m, gemm.block_m, [&](int64_t begin, int64_t end) {
        kernels::Gemm<T> part = args;
        part.m = end - begin;
        part.a += begin * args.lda;
        if (part.c) part.c += begin * args.ldc;
        if (part.c_acc) part.c_acc += begin * args.ldc;
        if (part.pre) part.pre += begin * args.ldc;
        gemm.run(part);
      });
    } else {
      parallel_for(n, gemm.block_n, [&](int64_t begin, int64_t end) {
        kernels::Gemm<T> part = args;
        part.n_begin = begin;
        part.n_end = end;
        gemm.run(part);
      });
    }
  });
}

void add_transposed_product(const Tensor& y, const Tensor& x, const Tensor& out) {
  check_rows(y, "y");
  check_rows(x, "x");
  check_rows(out, "out");
  const int64_t m = y.size(0), n = y.size(1), k = x.size(1);
  QKV_CHECK(x.size(0) == m && out.size(0) == n && out.size(1) == k, kShape,
            "add_transposed_product: {}^T {} does not give {}", y.shape().str(), x.shape().str(),
            out.shape().str());
  count_flops(2 * m * n * k);
  kernels::visit_dtype(y.dtype(), [&]<class T>(T) {
    const auto& gemm = kernels::table().of<T>().gemm;
    const int64_t block = std::min(m, kReductionBlock);
    // Rows of the transposed copy stand an odd number of cache lines apart: a power of two would map a column
    // of tiles to one L1 set.
    const int64_t ldt = round_up(block, 64) + 32;
    const auto transposed = Buffer::allocate(n * ldt * static_cast<int64_t>(sizeof(T)));
    const auto packed = Buffer::allocate(gemm.packed_bytes(block, k));
    T* yt = reinterpret_cast<T*>(transposed->data());
    for (int64_t begin = 0; begin < m; begin += block) {
      const int64_t rows = std::min(block, m - begin);
      const T* ys = y.data<T>() + begin * y.stride(0);
      const T* xs = x.data<T>() + begin * x.stride(0);
      parallel_for(n, 64, [&](int64_t c0, int64_t c1) {
        gemm.transpose(rows, c1 - c0, ys + c0, y.stride(0), yt + c0 * ldt, ldt);
      });
      parallel_for(k, gemm.block_n, [&](int64_t c0, int64_t c1) {
        gemm.pack_b({.k = rows,
                     .n = k,
                     .src = xs,
                     .src_is_t = true,
                     .row_stride = x.stride(0),
                     .col_stride = 1,
                     .dst = packed->data(),
                     .n_begin = c0,
                     .n_end = c1});
      });
      parallel_for(n, gemm.block_m, [&](int64_t r0, int64_t r1) {
        gemm.run({.m = r1 - r0,
                  .n = k,
                  .k = rows,
                  .a = yt + r0 * ldt,
                  .lda = ldt,
                  .b = packed->data(),
                  .n_begin = 0,
                  .n_end = k,
                  .ldc = out.stride(0),
                  .c_acc = out.data<accumulator_t<T>>() + r0 * out.stride(0),
                  .accumulate = true});
      });
    }
  });
}

void add_column_sum(const Tensor& x, const Tensor& out) {
  check_rows(x, "x");
  QKV_CHECK(out.defined() && out.is_contiguous() && out.numel() == x.size(1), kShape,
            "add_column_sum: {} does not give {}", x.shape().str(),
            out.defined() ? out.shape().str() : "undefined");
  kernels::visit_dtype(x.dtype(), [&]<class T>(T) {
    const auto& rows = kernels::table().of<T>().rows;
    parallel_for(x.size(1), 64, [&](int64_t begin, int64_t end) {
      rows.column_sum(x.size(0), end - begin, x.data<T>() + begin, x.stride(0),
                      out.data<accumulator_t<T>>() + begin);
    });
  });
}

}  // namespace qkv
