#pragma once

#include "qkv/autograd/var.h"
#include "qkv/base/philox.h"
#include "qkv/base/segments.h"

namespace qkv {

/// Stochastic depth of packed rows (Huang et al., "Deep Networks with Stochastic Depth" (2016),
/// arXiv:1603.09382): with probability p all rows of a sequence become zeros, else they are scaled by
/// 1 / (1 - p), so that the expectation stays and running needs no change.
///
///   x        [sequences.n_tokens(), d]
///   returns  like x
///
/// Whether sequence b is dropped is a function of (key, b) alone. p = 0 is the identity. Error kValue: p
/// outside [0, 1); kShape: rows and sequences that differ.
Var drop_sequences(const Var& x, const Segments& sequences, double p, const RandomKey& key);

}  // namespace qkv
