#include "qkv/autograd/var.h"

#include <atomic>
#include <map>

#include "qkv/base/parallel.h"
#include "qkv/base/trace.h"
#include "qkv/kernels/table.h"

namespace qkv {
namespace {

thread_local bool recording = true;
// Of the process: a tape may join what several threads recorded.
std::atomic<int64_t> next_order = 1;

// For a trace: what an operation moves that counts nothing itself. Forward, its inputs and its result;
// backward, the result's gradient, and of each input its value and its gradient. A view moves nothing.
int64_t bytes_moved(const Tensor& value, const std::vector<Var>& inputs) {
  int64_t bytes = value.n_bytes();
  for (const Var& input : inputs) {
    if (value.shares_memory(input.value())) return 0;
    bytes += input.value().n_bytes();
  }
  return bytes;
}
int64_t bytes_moved_back(const Tensor& grad, const std::vector<Var>& inputs) {
  int64_t bytes = 0;
  for (const Var& input : inputs)
    if (input.grad().defined() && !input.grad().shares_memory(grad)) bytes += 2 * input.value().n_bytes();
  return bytes > 0 || inputs.empty() ? grad.n_bytes() + bytes : 0;
}

}  // namespace

bool grad_enabled() { return recording; }
GradMode::GradMode(bool record) : before_(recording) { recording = record; }
GradMode::~GradMode() { recording = before_; }

Var::Var(Tensor value, bool requires_grad) : node_(std::make_shared<Node>()) {
  node_->value = std::move(value);
  node_->requires_grad = requires_grad;
}

// A long tape must not be destroyed by recursion, one stack frame a node: take the chain apart in a loop.
Var::Node::~Node() {
  std::vector<Var> pending = std::move(inputs);
  backward = nullptr;
  while (!pending.empty()) {
    Var var = std::move(pending.back());
    pending.pop_back();
    if (var.node_.use_count() == 1) {
      var.node_->backward = nullptr;
      for (Var& input : var.node_->inputs) pending.push_back(std::move(input));
      var.node_->inputs.clear();
    }
  }
}

void Var::add_grad(const Tensor& g) const {
  if (!requires_grad()) return;
  QKV_CHECK(g.shape() == node_->value.shape() && g.dtype() == node_->value.dtype(), kInternal,
            "backward: gradient {} {} for a value {} {}", g.shape().str(), name(g.dtype()),
            node_->value.shape().str(), name(node_->value.dtype()));
  if (!node_->grad.defined()) {
    node_->grad = g;
    return;
  }
  // Out of place: the tensor kept first may be shared with another Var's gradient.
  const Tensor sum = Tensor::empty(g.shape(), g.dtype());
  const Tensor a = node_->grad.contiguous(), b = g.contiguous();
  kernels::visit_dtype(g.dtype(), [&]<class T>(T) {
    const auto add = kernels::table().of<T>().rows.add;
    parallel_for(g.numel(), 4096, [&](int64_t begin, int64_t end) {
      add(end - begin, a.data<T>() + begin, b.data<T>() + begin, sum.data<T>() + begin);
    });
  });
  node_->grad = sum;
}

Var Var::result(Tensor value, bool differentiable, std::vector<Var> inputs, Backward backward) {
  const char* const op = trace::innermost_op();
  if (op != nullptr) trace::count_bytes_by_default(bytes_moved(value, inputs));
  Var out(std::move(value), false);
  if (recording && differentiable) {
    out.node_->requires_grad = true;
    out.node_->order = next_order++;
    if (op != nullptr) out.node_->op = op;
    out.node_->inputs = std::move(inputs);
    out.node_->backward = std::move(backward);
  }
  return out;
}

void backward(const Var& root, Tensor seed) { backward_since(0, root, std::move(seed)); }

int64_t tape_mark() { return next_order - 1; }

void backward_since(int64_t mark, const Var& root, Tensor seed) {
  QKV_CHECK(root.requires_grad(), kValue, "backward: nothing here requires a gradient");
  if (!seed.defined()) seed = Tensor::full(root.value().shape(), root.dtype(), 1);
  const trace::Span span("backward");
  root.add_grad(seed);
  // Reachable operations, newest first. An operation is newer than its inputs, so by the time one is taken
  // all of its gradient has arrived.
  std::map<int64_t, Var, std::greater<>> pending;
  const auto reach = [&](const Var& var) {
    if (var.requires_grad() && var.node_->order > mark) pending.emplace(var.node_->order, var);
  };
  reach(root);
  while (!pending.empty()) {
    const Var var = std::move(pending.begin()->second);
    pending.erase(pending.begin());
    Var::Node& node = *var.node_;
    if (!node.backward) continue;
    if (node.grad.defined()) {
      const trace::Span span_of_op(node.op, trace::Kind::kBackward);
      node.backward(node.grad);
      if (trace::on()) trace::count_bytes_by_default(bytes_moved_back(node.grad, node.inputs));
    }
    node.backward = nullptr;  // frees what the operation had saved
    node.grad = {};
    for (const Var& input : node.inputs) reach(input);
    node.inputs.clear();
  }
}

}  // namespace qkv
