#include "qkv/tensor/tensor.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "qkv/base/checked.h"
#include "qkv/base/parallel.h"

namespace qkv {
namespace {

// Calls visit(T{}) with the element type.
template <class F>
void visit_any(DType dtype, F&& visit) {
  switch (dtype) {
    case DType::kF64:
      return visit(double{});
    case DType::kF32:
      return visit(float{});
    case DType::kBF16:
      return visit(bfloat16{});
    case DType::kI32:
      return visit(int32_t{});
  }
}

// Calls body(linear, offset) for each element in row-major order; offset follows the strides.
template <class Body>
void for_each(const Tensor& t, Body&& body) {
  const int64_t n = t.numel();
  std::array<int64_t, kMaxRank> index{};
  int64_t offset = 0;
  for (int64_t i = 0; i < n; ++i) {
    body(i, offset);
    for (int axis = t.rank() - 1; axis >= 0; --axis) {
      offset += t.stride(axis);
      if (++index[axis] < t.size(axis)) break;
      offset -= t.stride(axis) * t.size(axis);
      index[axis] = 0;
    }
  }
}

}  // namespace

Shape::Shape(std::span<const int64_t> sizes) {
  QKV_CHECK(sizes.size() <= kMaxRank, kShape, "shape: rank {} is over the limit of {}", sizes.size(),
            kMaxRank);
  for (int64_t size : sizes) {
    QKV_CHECK(size >= 0, kShape, "shape: size {} is negative", size);
    sizes_[rank_++] = size;
  }
}

int64_t Shape::numel() const {
  int64_t n = 1;
  for (int64_t size : sizes()) n = checked_mul(n, size, "number of elements");
  return n;
}

std::string Shape::str() const { return fmt::format("[{}]", fmt::join(sizes(), ", ")); }

Tensor Tensor::empty(const Shape& shape, DType dtype) {
  Tensor t;
  t.buffer_ = Buffer::allocate(checked_mul(shape.numel(), size_of(dtype), "bytes of a tensor"));
  t.shape_ = shape;
  t.dtype_ = dtype;
  int64_t stride = 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    t.strides_[axis] = stride;
    stride *= shape[axis];
  }
  return t;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype) {
  const Tensor t = empty(shape, dtype);
  std::memset(t.bytes(), 0, static_cast<size_t>(t.n_bytes()));
  return t;
}

Tensor Tensor::full(const Shape& shape, DType dtype, double value) {
  const Tensor t = empty(shape, dtype);
  t.fill(value);
  return t;
}

Tensor Tensor::from(const Shape& shape, std::span<const double> values, DType dtype) {
  QKV_CHECK(shape.numel() == static_cast<int64_t>(values.size()), kShape,
            "tensor: shape {} needs {} values, got {}", shape.str(), shape.numel(), values.size());
  const Tensor t = empty(shape, dtype);
  visit_any(dtype, [&]<class T>(T) {
    for (size_t i = 0; i < values.size(); ++i) t.data<T>()[i] = static_cast<T>(values[i]);
  });
  return t;
}

Tensor Tensor::from_ids(std::span<const int32_t> ids) {
  const Tensor t = empty({static_cast<int64_t>(ids.size())}, DType::kI32);
  if (!ids.empty()) std::memcpy(t.bytes(), ids.data(), ids.size_bytes());
  return t;
}

bool Tensor::is_contiguous() const {
  int64_t stride = 1;
  for (int axis = rank() - 1; axis >= 0; --axis) {
    if (shape_[axis] != 1 && strides_[axis] != stride) return false;
    stride *= shape_[axis];
  }
  return true;
}

Tensor Tensor::slice(int axis, int64_t begin, int64_t end) const {
  QKV_CHECK(axis >= 0 && axis < rank() && begin >= 0 && begin <= end && end <= shape_[axis], kShape,
            "slice: [{}, {}) of axis {} does not lie in {}", begin, end, axis, shape_.str());
  Tensor t = *this;
  t.offset_ += begin * strides_[axis];
  std::array<int64_t, kMaxRank> sizes{};
  std::copy(shape_.sizes().begin(), shape_.sizes().end(), sizes.begin());
  sizes[axis] = end - begin;
  t.shape_ = Shape(std::span<const int64_t>(sizes.data(), static_cast<size_t>(rank())));
  return t;
}

Tensor Tensor::reshape(const Shape& shape) const {
  QKV_CHECK(is_contiguous() && shape.numel() == numel(), kShape, "reshape: {}{} cannot be seen as {}",
            shape_.str(), is_contiguous() ? "" : " (strided)", shape.str());
  Tensor t = *this;
  t.shape_ = shape;
  int64_t stride = 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    t.strides_[axis] = stride;
    stride *= shape[axis];
  }
  return t;
}

Tensor Tensor::transpose(int axis0, int axis1) const {
  QKV_CHECK(axis0 >= 0 && axis0 < rank() && axis1 >= 0 && axis1 < rank(), kShape,
            "transpose: {} has no axes {} and {}", shape_.str(), axis0, axis1);
  Tensor t = *this;
  std::array<int64_t, kMaxRank> sizes{};
  std::copy(shape_.sizes().begin(), shape_.sizes().end(), sizes.begin());
  std::swap(sizes[axis0], sizes[axis1]);
  std::swap(t.strides_[axis0], t.strides_[axis1]);
  t.shape_ = Shape(std::span<const int64_t>(sizes.data(), static_cast<size_t>(rank())));
  return t;
}

Tensor Tensor::contiguous() const { return is_contiguous() ? *this : clone(); }

Tensor Tensor::clone() const {
  const Tensor t = empty(shape_, dtype_);
  t.copy_from(*this);
  return t;
}

Tensor Tensor::to(DType dtype) const {
  if (dtype == dtype_) return *this;
  const Tensor t = empty(shape_, dtype);
  t.copy_from(*this);
  return t;
}

void Tensor::copy_from(const Tensor& source) const {
  QKV_CHECK(source.shape() == shape_, kShape, "copy: source {} does not fit {}", source.shape().str(),
            shape_.str());
  if (dtype_ == source.dtype_ && is_contiguous() && source.is_contiguous()) {
    if (n_bytes() > 0) std::memcpy(bytes(), source.bytes(), static_cast<size_t>(n_bytes()));
    return;
  }
  const auto adjacent = [](const Tensor& t) { return t.rank() == 2 && (t.size(1) <= 1 || t.stride(1) == 1); };
  if (dtype_ == source.dtype_ && adjacent(*this) && adjacent(source)) {
    const int64_t row = size(1) * size_of(dtype_);
    parallel_for(
        size(0), std::max<int64_t>(1, 32768 / std::max<int64_t>(1, row)), [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; row > 0 && i < end; ++i)
            std::memcpy(bytes() + i * stride(0) * size_of(dtype_),
                        source.bytes() + i * source.stride(0) * size_of(dtype_), static_cast<size_t>(row));
        });
    return;
  }
  visit_any(source.dtype_, [&]<class S>(S) {
    visit_any(dtype_, [&]<class T>(T) {
      std::vector<int64_t> to;
      T* out = data<T>();
      const S* in = source.data<S>();
      if (is_contiguous() && source.is_contiguous()) {
        const int64_t n = numel();
        for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(in[i]);
      } else if (is_contiguous()) {
        for_each(source, [&](int64_t i, int64_t offset) { out[i] = static_cast<T>(in[offset]); });
      } else {
        to.resize(static_cast<size_t>(numel()));
        for_each(*this, [&](int64_t i, int64_t offset) { to[i] = offset; });
        for_each(source, [&](int64_t i, int64_t offset) { out[to[i]] = static_cast<T>(in[offset]); });
      }
    });
  });
}

void Tensor::fill(double value) const {
  visit_any(dtype_, [&]<class T>(T) {
    T* out = data<T>();
    for_each(*this, [&](int64_t, int64_t offset) { out[offset] = static_cast<T>(value); });
  });
}

double Tensor::at(std::initializer_list<int64_t> index) const {
  QKV_CHECK(static_cast<int>(index.size()) == rank(), kShape, "at: {} indices for {}", index.size(),
            shape_.str());
  int64_t offset = 0;
  int axis = 0;
  for (int64_t i : index) {
    QKV_CHECK(i >= 0 && i < shape_[axis], kValue, "at: index {} of axis {} is outside {}", i, axis,
              shape_.str());
    offset += i * strides_[axis++];
  }
  double out = 0;
  visit_any(dtype_, [&]<class T>(T) { out = static_cast<double>(data<T>()[offset]); });
  return out;
}

std::vector<double> Tensor::values() const {
  std::vector<double> out(static_cast<size_t>(numel()));
  visit_any(dtype_, [&]<class T>(T) {
    for_each(*this, [&](int64_t i, int64_t offset) { out[i] = static_cast<double>(data<T>()[offset]); });
  });
  return out;
}

}  // namespace qkv
