#pragma once
// Matrix products over tensors: checks, packing and the split over threads; the arithmetic is
// kernels/gemm.h's.

#include "qkv/kernels/gemm.h"
#include "qkv/tensor/tensor.h"

namespace qkv {

using kernels::Activation;

/// How a model runs: activations of a dtype; its products with weights of the same, or in 8-bit integers
/// (kernels/gemm_int8.h).
struct Precision {
  DType dtype = DType::kF32;
  bool int8 = false;
  constexpr Precision(DType d = DType::kF32, bool in_int8 = false) : dtype(d), int8(in_int8) {}
};
std::string_view name(const Precision& precision);  // "int8", or the dtype's

/// The right operand of a product, rearranged for the kernels of `dtype`, the type of the left one.
struct PackedMatrix {
  int64_t k = 0, n = 0;
  DType dtype = DType::kF32;
  std::shared_ptr<Buffer> data;
  Tensor scales;  // [n] f32: 8-bit integers (kernels/gemm_int8.h); undefined: numbers of dtype
  bool defined() const { return data != nullptr; }
};

/// b [k, n], any strides, of the compute dtype or its accumulator's. O(k n).
PackedMatrix pack_matrix(const Tensor& b, DType compute);

/// b [k, n] in 8-bit integers, a scale for each column: matmul() then turns each row of a into integers too.
/// b as above; compute f32 or bf16. Errors: kDtype, kShape (k above kernels::kInt8Depth).
PackedMatrix pack_matrix_int8(const Tensor& b, DType compute);

PackedMatrix pack_matrix(const Tensor& b, const Precision& compute);  // either

struct MatmulOptions {
  Tensor bias;  // [n] of the accumulator's dtype, or undefined
  Activation activation = Activation::kNone;
  // The next three lie like out, rows as far apart, in b's packed dtype (of an 8-bit b: out's).
  Tensor pre_activation;  // filled with a b + bias, if defined
  Tensor residual;        // added after the activation, before rounding, if defined
  /// out = (a b) f'(there), the way back through f = activation; there lies what went into f, of
  /// relu and tanh what came out. Without bias, pre_activation and residual.
  Tensor derivative_at;
  bool accumulate = false;  // out += a b and nothing else (out of the accumulator's dtype)
};

/// out [m, n] = activation(a [m, k] b + bias) + residual. a has the packed dtype; out that or its
/// accumulator's. Rows of a and out may be strided. A row of out has the same bits whatever m is and however
/// many threads run. Errors: kShape, kDtype, kUnsupported (options that do not go together; 8-bit b with
/// pre_activation, derivative_at or accumulate).
void matmul(const Tensor& a, const PackedMatrix& b, const Tensor& out, const MatmulOptions& options = {});

/// out [n, k] = y [m, n]^T x [m, k]: the gradient of a weight; and column_sum [n] += the sum over the rows of
/// y, if it is defined: the gradient of a bias, while y is at hand. y and x of one dtype, the others of its
/// accumulator's. The sum over m runs in fixed blocks, in order.
void transposed_product(const Tensor& y, const Tensor& x, const Tensor& out, const Tensor& column_sum = {});
/// out += y^T x: the same numbers as the other one's where out is zeros.
void add_transposed_product(const Tensor& y, const Tensor& x, const Tensor& out,
                            const Tensor& column_sum = {});

/// out [n] += sum over the rows of x [m, n].
void add_column_sum(const Tensor& x, const Tensor& out);

/// Floating-point operations of products done by this process so far (a multiply-add counts two), for
/// progress bars; what is counted is also the innermost trace span's (base/trace.h).
int64_t flop_count();
void count_flops(int64_t n);

}  // namespace qkv
