#pragma once
// Reverse-mode differentiation. An operation computes its value at once and, while gradients are on, records
// how to pass a gradient on to its inputs. backward() walks the record from the newest operation to the
// oldest.

#include <functional>
#include <memory>
#include <vector>

#include "qkv/tensor/tensor.h"

namespace qkv {

/// A tensor on the tape. Copies are the same node. Constants (requires_grad false) stop the walk.
class Var {
 public:
  Var() = default;
  explicit Var(Tensor value, bool requires_grad = false);

  bool defined() const { return node_ != nullptr; }
  const Tensor& value() const { return node_->value; }
  DType dtype() const { return node_->value.dtype(); }
  int64_t size(int axis) const { return node_->value.size(axis); }
  bool is(const Var& other) const { return node_ == other.node_; }  // the same node
  bool requires_grad() const { return node_ != nullptr && node_->requires_grad; }

  /// The gradient after backward(); undefined if none arrived.
  const Tensor& grad() const { return node_->grad; }
  /// Adds g to this Var's gradient; keeps g itself when it is the first, so g must not be written to
  /// afterwards. Does nothing for constants. What backward functions call.
  void add_grad(const Tensor& g) const;
  /// Replaces the gradient, for starting a walk from several Vars.
  void set_grad(Tensor g) const { node_->grad = std::move(g); }

  using Backward = std::function<void(const Tensor& grad)>;
  /// An operation's result. `backward` receives the result's gradient and calls add_grad on the inputs (which
  /// it captures); it is kept only while gradients are on and `differentiable` (some input requires a
  /// gradient or some parameter is trainable). Both ways an operation is in a trace under the name of the
  /// span (base/trace.h) that it opens first: const trace::Span span("add", trace::Kind::kOp).
  static Var result(Tensor value, bool differentiable, std::vector<Var> inputs, Backward backward);

 private:
  struct Node {
    Tensor value, grad;
    bool requires_grad = false;
    int64_t order = 0;             // newer operations have larger numbers
    const char* op = "operation";  // its name in a trace
    std::vector<Var> inputs;
    Backward backward;
    ~Node();
  };
  friend void backward_since(int64_t mark, const Var& root, Tensor seed);
  std::shared_ptr<Node> node_;
};

/// Walks from `root`, whose gradient is `seed` (undefined: ones). Values and closures are let go as the walk
/// passes them, so a tape is walked once. Intermediate gradients are freed; those of Vars made with
/// requires_grad stay.
void backward(const Var& root, Tensor seed = {});

/// A place on the tape: what is recorded later is newer. backward_since() walks only what is newer than a
/// mark; gradients that reach what is older are added to it, and wait there for a walk of its own. So a
/// backward function may record something and walk it (recompute.h).
int64_t tape_mark();
void backward_since(int64_t mark, const Var& root, Tensor seed = {});

/// Whether operations record. On by default, per thread.
bool grad_enabled();

/// Recording, or none, while one of these lives.
class GradMode {
 public:
  explicit GradMode(bool record);
  ~GradMode();
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;

 private:
  bool before_;
};
/// No recording while one of these lives.
class NoGrad : public GradMode {
 public:
  NoGrad() : GradMode(false) {}
};

}  // namespace qkv
