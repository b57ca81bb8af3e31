#include "qkv/autograd/parameter.h"

#include <algorithm>
#include <cstring>

namespace qkv {

const Tensor& Parameter::value() const {
  QKV_CHECK(value_.defined(), kUnsupported,
            "{}: was packed for running, and its value is gone; load the model without a Precision", name_);
  return value_;
}

void Parameter::value_changed() {
  packed_ = {};
  if (whole_) whole_->value_changed();
}

void Parameter::set_value(Tensor value) {
  QKV_CHECK(value.shape() == shape_, kShape, "{}: needs {}, got {}", name_, shape_.str(),
            value.shape().str());
  this->value().copy_from(value);
  value_changed();
}

bool Parameter::trainable() const {
  if (parts_.empty() || !trainable_) return trainable_;
  return std::any_of(parts_.begin(), parts_.end(), [](const std::weak_ptr<Parameter>& part) {
    const ParameterPtr p = part.lock();
    return !p || p->trainable_;
  });
}

ParameterPtr Parameter::stack(const std::vector<ParameterPtr>& parts) {
  std::string names;
  int64_t rows = 0;
  for (const ParameterPtr& part : parts) {
    const Shape &shape = part->shape(), &first = parts[0]->shape();
    QKV_CHECK(
        shape.rank() == first.rank() && (shape.rank() == 1 || (shape.rank() == 2 && shape[1] == first[1])),
        kShape, "stack: {} is {}, {} is {}: their rows are not of one kind", parts[0]->name(), first.str(),
        part->name(), shape.str());
    QKV_CHECK(!part->whole_ && part->int8_ == parts[0]->int8_, kInternal,
              "stack: {} is in a stack already, or not in 8 bits as {} is", part->name(), parts[0]->name());
    names += (names.empty() ? "" : ", ") + part->name();
    rows += shape[0];
  }
  QKV_CHECK(!parts.empty(), kShape, "stack: of nothing");
  const Shape& first = parts[0]->shape();
  auto whole = std::make_shared<Parameter>(
      names,
      Tensor::empty(first.rank() == 1 ? Shape{rows} : Shape{rows, first[1]}, parts[0]->value().dtype()));
  int64_t row = 0;
  for (const ParameterPtr& part : parts) {
    const Tensor mine = whole->value_.rows(row, row + part->shape()[0]);
    mine.copy_from(part->value());
    part->value_ = mine;
    part->grad_ = {};
    part->grad_is_zero_ = true;
    part->packed_ = {};
    part->whole_ = whole;
    part->row_ = row;
    row += part->shape()[0];
    if (part->runs_in_int8()) whole->run_in_int8();
    whole->parts_.push_back(part);
  }
  return whole;
}

void Parameter::run_in_int8() {
  if (whole_) whole_->run_in_int8();
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
  for (const std::weak_ptr<Parameter>& part : parts_)
    if (const ParameterPtr p = part.lock()) {
      p->trainable_ = false;
      p->value_ = p->grad_ = {};
    }
}

const Tensor& Parameter::grad_memory() {
  if (!grad_.defined())
    grad_ =
        whole_ ? whole_->grad_memory().rows(row_, row_ + shape_[0]) : Tensor::empty(shape_, value().dtype());
  return grad_;
}

// A stack's gradient is zero or not part by part: parts are what optimizers set to zero.
bool Parameter::grad_is_zero() const {
  return parts_.empty() ? grad_is_zero_
                        : std::all_of(parts_.begin(), parts_.end(), [](const std::weak_ptr<Parameter>& part) {
                            const ParameterPtr p = part.lock();
                            return p && p->grad_is_zero_;
                          });
}

void Parameter::set_grad_written() {
  grad_is_zero_ = false;
  for (const std::weak_ptr<Parameter>& part : parts_)
    if (const ParameterPtr p = part.lock()) p->grad_is_zero_ = false;
}

const Tensor& Parameter::grad() {
  const Tensor& sum = grad_memory();
  if (!parts_.empty()) {
    for (const std::weak_ptr<Parameter>& part : parts_)
      if (const ParameterPtr p = part.lock()) (void)p->grad();
  } else if (grad_is_zero_) {
    std::memset(sum.bytes(), 0, static_cast<size_t>(sum.n_bytes()));
    grad_is_zero_ = false;
  }
  return sum;
}

void Parameter::zero_grad() {
  grad_is_zero_ = true;
  for (const std::weak_ptr<Parameter>& part : parts_)
    if (const ParameterPtr p = part.lock()) p->grad_is_zero_ = true;
}

void Parameter::add_linear_grads(const Tensor& dy, const Tensor& x, const ParameterPtr& bias) {
  const Tensor sum = bias && bias->trainable() ? bias->grad() : Tensor{};
  if (!trainable()) {
    if (sum.defined()) add_column_sum(dy, sum);
  } else if (grad_is_zero()) {
    transposed_product(dy, x, grad_memory(), sum);
    set_grad_written();
  } else {
    add_transposed_product(dy, x, grad(), sum);
  }
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
