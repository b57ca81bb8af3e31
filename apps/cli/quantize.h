#pragma once
// qkv quantize: a model in 8-bit weights, and what that costs.

#include <CLI/CLI.hpp>

namespace qkv::cli {

/// Adds `quantize` to `app`.
void add_quantize_command(CLI::App& app);

}  // namespace qkv::cli
