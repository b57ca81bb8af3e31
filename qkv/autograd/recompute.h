#pragma once
// Gradient checkpointing: memory for activations in exchange for computing them twice.

#include <functional>
#include <vector>

#include "qkv/autograd/var.h"

namespace qkv {

/// f(state, inputs...), of which the tape keeps the inputs and the result alone: backward runs f again, this
/// time with recording on, and walks what that recorded. Chen et al., "Training Deep Nets with Sublinear
/// Memory Cost" (2016), arXiv:1604.06174, section 4.
///
///   state   what f draws from and advances, its random numbers say (nn/pass.h); small: copied. Both runs get
///           equal copies.
///   f       Var(State&, const Var&...): a function of its arguments and of parameters, the same each time.
///           Kept until backward has passed, so what it captures by reference has to live as long.
///   inputs  all Vars that f reads. It must not capture one that requires a gradient, which would be lost.
///
/// Gradients are those without it, bit for bit, in parameters and inputs: the second run computes the same
/// values, and what it records is walked at the place in the order where it would have been. Costs f once
/// more (a training step about a third more products) and saves what f's operations keep; while one f is
/// walked, its own are there. May be nested: an f within f runs three times. Without recording it is f
/// itself.
template <class State, class F, class... Inputs>
Var recompute(State& state, F f, const Inputs&... inputs);

namespace detail {
using Piece = std::function<Var()>;
/// `first` now, without recording; `again` in backward.
Var recompute(const Piece& first, Piece again, std::vector<Var> inputs);
}  // namespace detail

template <class State, class F, class... Inputs>
Var recompute(State& state, F f, const Inputs&... inputs) {
  if (!grad_enabled()) return f(state, inputs...);
  auto again = [before = state, f, inputs...] {
    State copy = before;
    return f(copy, inputs...);
  };
  return detail::recompute([&] { return f(state, inputs...); }, std::move(again), {inputs...});
}

}  // namespace qkv
