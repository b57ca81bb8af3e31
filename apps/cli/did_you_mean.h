#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace qkv::cli {

/// "Did you mean --beam-size?" for the first argument that no command or option knows, or "".
std::string did_you_mean(const CLI::App& app, int argc, char** argv);

}  // namespace qkv::cli
