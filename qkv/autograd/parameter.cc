#include "qkv/autograd/parameter.h"

#include <cstring>

namespace qkv {

void Parameter::set_value(Tensor value) {
  QKV_CHECK(value.shape() == value_.shape(), kShape, "{}: needs {}, got {}", name_, value_.shape().str(),
            value.shape().str());
  value_.copy_from(value);
  value_changed();
}

void Parameter::run_in_int8() {
  int8_ = true;
  trainable_ = false;
  packed_ = {};
}

const Tensor& Parameter::grad() {
  if (!grad_.defined()) grad_ = Tensor::zeros(value_.shape(), value_.dtype());
  return grad_;
}

void Parameter::zero_grad() {
  if (grad_.defined()) std::memset(grad_.bytes(), 0, static_cast<size_t>(grad_.n_bytes()));
}

const PackedMatrix& Parameter::packed_transposed(DType compute) {
  PackedMatrix& p = packed_.transposed;
  if (!p.defined() || p.dtype != compute)
    p = int8_ ? pack_matrix_int8(value_.transpose(0, 1), compute)
              : pack_matrix(value_.transpose(0, 1), compute);
  return p;
}

const PackedMatrix& Parameter::packed(DType compute) {
  PackedMatrix& p = packed_.plain;
  if (!p.defined() || p.dtype != compute) p = pack_matrix(value_, compute);
  return p;
}

}  // namespace qkv
