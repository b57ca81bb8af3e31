#include "qkv/autograd/parameter.h"

#include <cstring>

namespace qkv {

const Tensor& Parameter::value() const {
  QKV_CHECK(value_.defined(), kUnsupported,
            "{}: was packed for running, and its value is gone; load the model without a Precision", name_);
  return value_;
}

void Parameter::set_value(Tensor value) {
  QKV_CHECK(value.shape() == shape_, kShape, "{}: needs {}, got {}", name_, shape_.str(),
            value.shape().str());
  this->value().copy_from(value);
  value_changed();
}

void Parameter::run_in_int8() {
  int8_ = true;
  trainable_ = false;
  packed_ = {};
}

void Parameter::keep_packed(const Precision& precision) {
  int8_ = precision.int8;
  trainable_ = false;
  packed_ = {};
  (void)packed_transposed(precision.dtype);
  value_ = grad_ = {};
}

const Tensor& Parameter::grad() {
  if (!grad_.defined()) grad_ = Tensor::zeros(shape_, value().dtype());
  return grad_;
}

void Parameter::zero_grad() {
  if (grad_.defined()) std::memset(grad_.bytes(), 0, static_cast<size_t>(grad_.n_bytes()));
}

const PackedMatrix& Parameter::packed_transposed(DType compute) {
  PackedMatrix& p = packed_.transposed;
  if (!p.defined() || p.dtype != compute) p = pack_matrix(value().transpose(0, 1), Precision{compute, int8_});
  return p;
}

const PackedMatrix& Parameter::packed(DType compute) {
  PackedMatrix& p = packed_.plain;
  if (!p.defined() || p.dtype != compute) p = pack_matrix(value(), compute);
  return p;
}

}  // namespace qkv
