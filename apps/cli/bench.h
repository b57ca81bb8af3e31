#pragma once

#include <CLI/CLI.hpp>

namespace qkv::cli {

/// qkv bench train|infer|gemm|attention|translate: one JSON line a case.
void add_bench_command(CLI::App& app);

}  // namespace qkv::cli
