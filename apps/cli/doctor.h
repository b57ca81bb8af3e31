#pragma once

#include <CLI/CLI.hpp>

namespace qkv::cli {

/// qkv doctor: what this CPU can do, and what qkv makes of it.
void add_doctor_command(CLI::App& app);

}  // namespace qkv::cli
