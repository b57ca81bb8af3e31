#pragma once
// qkv score: how good translations are, as sacreBLEU counts it.

#include <CLI/CLI.hpp>

namespace qkv::cli {

/// Adds `score` with its subcommands `bleu`, `chrf` and `ter` to `app`. Their callbacks run inside
/// app.parse(): they read the files, print to standard output, and throw qkv::Error.
void add_score_command(CLI::App& app);

}  // namespace qkv::cli
