#pragma once

#include <CLI/CLI.hpp>

namespace qkv::cli {

/// qkv info MODEL: what a model directory holds.
void add_info_command(CLI::App& app);

}  // namespace qkv::cli
