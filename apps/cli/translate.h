#pragma once

#include <CLI/CLI.hpp>

namespace qkv::cli {

/// qkv translate: lines in, lines out.
void add_translate_command(CLI::App& app);

}  // namespace qkv::cli
