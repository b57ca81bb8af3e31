#pragma once

#include "qkv/autograd/ops/elementwise.h"
#include "qkv/nn/pass.h"

namespace qkv {

/// residual + dropout(f(...)). f is called with what it adds itself, as part of its last product, where
/// nothing is dropped; else with nothing.
template <class Sublayer>
Var add_sublayer(Pass& pass, const Var& residual, double dropout, Sublayer&& f) {
  const double p = pass.rate(dropout);
  const Var y = f(p == 0 ? residual : Var{});
  const RandomKey key = pass.next_key();
  return p == 0 ? y : add_dropout(residual, y, p, key);
}

}  // namespace qkv
