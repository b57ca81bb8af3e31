#pragma once
// A trainable matrix, vector or table: its master value, its gradient, and the packed copies that products
// use.

#include <memory>
#include <string>
#include <vector>

#include "qkv/tensor/matmul.h"
#include "qkv/tensor/tensor.h"

namespace qkv {

/// Modules hold parameters by shared_ptr; tying two weights is holding the same one. The value has the
/// accumulator's dtype (f32, or f64 in gradient checks) whatever dtype the activations have.
class Parameter {
 public:
  Parameter(std::string name, Tensor value)
      : name_(std::move(name)), shape_(value.shape()), value_(std::move(value)) {}

  const std::string& name() const { return name_; }
  const Shape& shape() const { return shape_; }
  /// Error kUnsupported: keep_packed() let it go.
  const Tensor& value() const;
  /// Whoever writes into value() says so, or products go on using the old packed copies.
  void value_changed();
  void set_value(Tensor value);  // Error kShape if the shape changes

  /// Whether weight decay is for it: matrices and tables, not biases and norms.
  bool decays() const { return decays_; }
  void set_decays(bool decays) { decays_ = decays; }

  /// Whether its rows belong to words or places and are looked up or compared one by one, as in embeddings
  /// and output layers: an optimizer that treats a matrix as one linear map (Muon) leaves tables alone.
  bool is_table() const { return is_table_; }
  void set_table(bool is_table) { is_table_ = is_table; }

  /// Whether it is read by products alone, packed: a linear layer's weight.
  bool only_multiplies() const { return only_multiplies_; }
  void set_only_multiplies(bool only_multiplies) { only_multiplies_ = only_multiplies; }

  bool trainable() const;  // of a stack: any of its parts
  void set_trainable(bool trainable) { trainable_ = trainable; }
  /// The gradient's sum so far: zeros at first use. Backward passes add to it.
  const Tensor& grad();
  bool has_grad() const { return grad_.defined() || (whole_ && whole_->has_grad()); }
  /// Takes no time: memory is written by the next grad() or add_linear_grads(). So ask for grad() again
  /// afterwards; a tensor from before is not zeros yet.
  void zero_grad();
  /// grad() += dy [m, n]^T x [m, k], what y = x W^T + bias gives a weight [n, k], and the bias' (null: none)
  /// += the sum over dy's rows; of each only if it is trainable. The weight's first since zero_grad() is
  /// stored: where m is small, writing zeros and adding to them would take as long.
  void add_linear_grads(const Tensor& dy, const Tensor& x, const std::shared_ptr<Parameter>& bias);

  /// Parameters of equal rows one below the other in one block of memory, where their values and gradients
  /// are from here on: products take the whole, files and optimizers the parts. Frozen parts' gradients are
  /// of no meaning while others train. Error kShape: other rows; kInternal: a part of another stack, or some
  /// in 8 bits.
  static std::shared_ptr<Parameter> stack(const std::vector<std::shared_ptr<Parameter>>& parts);

  /// Products with it are done in 8-bit integers: for running. It does not train then.
  void run_in_int8();
  bool runs_in_int8() const { return int8_; }
  bool has_value() const { return value_.defined(); }
  /// For running alone: packs it for y = x W^T and lets the value go, half of a model's memory or more. It
  /// neither trains nor is saved then; nor do its parts, if it is a stack.
  void keep_packed(const Precision& precision);

  /// value [n, k] as the right operand of y = x W^T (forward) and of dx = dy W (backward), packed once per
  /// change. Error kUnsupported: it was packed for another dtype, or for running, and its value is gone.
  const PackedMatrix& packed_transposed(DType compute);
  const PackedMatrix& packed(DType compute);

 private:
  const Tensor& grad_memory();  // the gradient, or anything where grad_is_zero_
  bool grad_is_zero() const;    // of a stack: all of its parts
  void set_grad_written();

  struct Packed {
    PackedMatrix transposed, plain;
  };
  std::string name_;
  Shape shape_;
  Tensor value_, grad_;
  bool trainable_ = true, decays_ = false, is_table_ = false, only_multiplies_ = false, int8_ = false;
  bool grad_is_zero_ = true;  // whatever grad_ holds
  Packed packed_;
  // The stack that this is a part of, from row_ on; the parts that this is a stack of.
  std::shared_ptr<Parameter> whole_;
  int64_t row_ = 0;
  std::vector<std::weak_ptr<Parameter>> parts_;
};
using ParameterPtr = std::shared_ptr<Parameter>;

}  // namespace qkv
