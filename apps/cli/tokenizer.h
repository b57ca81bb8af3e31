#pragma once

#include <CLI/CLI.hpp>

namespace qkv::cli {

/// qkv tokenizer train|encode|decode: learns a vocabulary and shows what it does to text.
void add_tokenizer_command(CLI::App& app);

}  // namespace qkv::cli
