#pragma once

#include <CLI/CLI.hpp>

namespace qkv::cli {

/// qkv train translate|lm|mlm
void add_train_command(CLI::App& app);

}  // namespace qkv::cli
