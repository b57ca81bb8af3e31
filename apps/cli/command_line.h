#pragma once

#include <string>

namespace qkv::cli {

/// What this process was called with, words between blanks.
std::string own_command_line();

}  // namespace qkv::cli
