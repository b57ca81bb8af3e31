#pragma once

#include <string>
#include <string_view>

#include "qkv/kernels/gemm.h"

namespace qkv {

/// The names that model configs use: "relu", "gelu" (erf), "gelu_new" (tanh form), "swish" or "silu", "tanh".
/// Error kValue, beginning with `where` and with the list, for any other.
kernels::Activation activation_from_name(std::string_view name, std::string_view where = "model");
std::string activation_name(kernels::Activation activation);

}  // namespace qkv
