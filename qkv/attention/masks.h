#pragma once
// The masks that qkv brings. Each is one file in masks/.

#include "qkv/attention/rule.h"

namespace qkv {

/// Query i sees keys j <= i.
RulePtr causal();

/// Query i sees the `window` keys i - window < j <= i (Beltagy et al., "Longformer" (2020), arXiv:2004.05150,
/// section 3.1, looking back only). Error kValue: window < 1.
RulePtr sliding_window(int64_t window);

/// Sequence b sees its first visible[b] keys: padding at the end of a fixed-size buffer. Error kValue: a
/// negative count. A sequence without an entry sees no key.
RulePtr key_limit(std::vector<int64_t> visible);

}  // namespace qkv
