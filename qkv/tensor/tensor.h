#pragma once
// Tensor: an n-dimensional array over a shared, pooled block of memory. Copies share the memory.

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "qkv/base/dtype.h"
#include "qkv/base/error.h"
#include "qkv/base/memory.h"

namespace qkv {

constexpr int kMaxRank = 8;

/// Sizes of a tensor, outermost axis first. Rank 0 is a scalar of one element.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}
  explicit Shape(std::span<const int64_t> sizes);  // Error kShape: rank over kMaxRank or a negative size

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return sizes_[axis]; }
  int64_t numel() const;
  std::span<const int64_t> sizes() const { return {sizes_.data(), static_cast<size_t>(rank_)}; }
  std::string str() const;  // "[2, 3]"
  bool operator==(const Shape& other) const = default;

 private:
  std::array<int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
};

/// A view of elements of one dtype. Row-major unless made by a slicing call; kernels want rows whose elements
/// are adjacent, which slicing rows or columns of a matrix keeps.
class Tensor {
 public:
  Tensor() = default;  // undefined: defined() is false

  static Tensor empty(const Shape& shape, DType dtype);  // contents undefined
  static Tensor zeros(const Shape& shape, DType dtype);
  static Tensor full(const Shape& shape, DType dtype, double value);
  /// Row-major values, converted to dtype.
  static Tensor from(const Shape& shape, std::span<const double> values, DType dtype);
  static Tensor from(const Shape& shape, std::initializer_list<double> values, DType dtype = DType::kF32) {
    return from(shape, std::span(values.begin(), values.size()), dtype);
  }
  static Tensor from_ids(std::span<const int32_t> ids);  // [n] of i32

  bool defined() const { return buffer_ != nullptr; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t size(int axis) const { return shape_[axis < 0 ? rank() + axis : axis]; }
  int64_t stride(int axis) const { return strides_[axis < 0 ? rank() + axis : axis]; }  // in elements
  int64_t numel() const { return shape_.numel(); }
  bool is_contiguous() const;
  bool shares_memory(const Tensor& other) const { return buffer_ == other.buffer_; }

  /// First element. Error kDtype if T is not the tensor's type.
  template <class T>
  T* data() const {
    QKV_CHECK(defined() && dtype_of<T>::value == dtype_, kDtype, "tensor: asked for {} data, holds {}",
              name(dtype_of<T>::value), defined() ? name(dtype_) : "nothing");
    return reinterpret_cast<T*>(buffer_->data()) + offset_;
  }
  std::byte* bytes() const { return buffer_->data() + offset_ * size_of(dtype_); }  // of a contiguous tensor
  int64_t n_bytes() const { return numel() * size_of(dtype_); }

  Tensor slice(int axis, int64_t begin, int64_t end) const;  // shares memory
  Tensor rows(int64_t begin, int64_t end) const { return slice(0, begin, end); }
  Tensor columns(int64_t begin, int64_t end) const { return slice(rank() - 1, begin, end); }
  Tensor reshape(
      const Shape& shape) const;  // shares memory; Error kShape unless contiguous and of equal numel
  Tensor transpose(int axis0, int axis1) const;  // shares memory
  Tensor contiguous() const;                     // itself, or a row-major copy
  Tensor clone() const;                          // a row-major copy
  Tensor to(DType dtype) const;                  // itself, or a converted copy
  /// Overwrites this view with the values of `source` (same shape; converted if need be).
  void copy_from(const Tensor& source) const;
  void fill(double value) const;

  double at(std::initializer_list<int64_t> index) const;  // one element, for tests and printing
  std::vector<double> values() const;                     // all, row-major, for tests

 private:
  std::shared_ptr<Buffer> buffer_;
  int64_t offset_ = 0;  // in elements
  Shape shape_;
  std::array<int64_t, kMaxRank> strides_{};
  DType dtype_ = DType::kF32;
};

/// The type that parameters and sums of a compute dtype have: f64 for f64, else f32.
inline DType accumulator_dtype(DType dtype) { return dtype == DType::kF64 ? DType::kF64 : DType::kF32; }

}  // namespace qkv
