#pragma once

#include <CLI/CLI.hpp>

namespace qkv::cli {

/// qkv doctor: what this CPU can do, and what qkv makes of it.
void add_doctor_command(CLI::App& app);

/// qkv doctor --roofline (doctor_roofline.cc): tensor/roofline.h's figures, on one thread and on all.
void print_roofline(bool json);

}  // namespace qkv::cli
