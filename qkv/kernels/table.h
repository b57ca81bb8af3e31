#pragma once
// The table of kernels: raw pointers in, numbers out.
//
// Every kernel is noexcept, allocates nothing and starts no threads; tensor/ checks arguments, splits the
// output over threads and calls. kernels/ref is the definition of each entry, written for reading, for every
// T; the other families overwrite the entries they do better. QKV_ISA caps the family (base/cpu.h).
//
// T is the type of activations: double, float or bfloat16. A = accumulator_t<T> (double for double, else
// float) is the type of parameters, of sums, and of everything that is kept per row.

#include "qkv/base/cpu.h"
#include "qkv/base/dtype.h"
#include "qkv/base/error.h"
#include "qkv/kernels/attention.h"
#include "qkv/kernels/gemm.h"
#include "qkv/kernels/gemm_int8.h"
#include "qkv/kernels/mixers.h"
#include "qkv/kernels/optimizer.h"
#include "qkv/kernels/rows.h"
#include "qkv/kernels/stream.h"

namespace qkv::kernels {

template <class T>
struct KernelsFor {
  GemmKernels<T> gemm;
  Int8Kernels<T> int8;  // of float and bfloat16
  RowKernels<T> rows;
  AttentionKernels<T> attention;
  MixerKernels<T> mixers;
};

struct Table {
  Isa isa = Isa::kRef;
  KernelsFor<double> f64;
  KernelsFor<float> f32;
  KernelsFor<bfloat16> bf16;
  OptimizerKernels optimizer;
  StreamKernels stream;

  template <class T>
  const KernelsFor<T>& of() const;
};
template <>
inline const KernelsFor<double>& Table::of<double>() const {
  return f64;
}
template <>
inline const KernelsFor<float>& Table::of<float>() const {
  return f32;
}
template <>
inline const KernelsFor<bfloat16>& Table::of<bfloat16>() const {
  return bf16;
}

/// The table of the family in use, qkv::isa(). Made once.
const Table& table();
/// The table of any family up to best_isa(): a test visits them all. Error kUnsupported above that.
const Table& table_for(Isa isa);

/// Calls f(T{}) with the C++ type of an activation dtype, for code that is generic in it.
template <class F>
decltype(auto) visit_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF64:
      return f(double{});
    case DType::kF32:
      return f(float{});
    case DType::kBF16:
      return f(bfloat16{});
    default:
      throw_error(ErrorCode::kDtype, "{} is not a type of activations (f64, f32, bf16)", name(dtype));
  }
}

// Each family's additions, in that family's folder. A family that this build or CPU lacks adds nothing.
void extend_ref(Table& table);
void extend_avx2(Table& table);
void extend_avx512(Table& table);
void extend_amx(Table& table);

}  // namespace qkv::kernels
