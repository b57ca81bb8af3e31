#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace qkv::cli {

/// The candidate nearest to `word` (Levenshtein distance at most a third of its length, at least 2 allowed),
/// or "".
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

/// "Did you mean --beam-size?" for the first argument that no command or option knows, or "".
std::string did_you_mean(const CLI::App& app, int argc, char** argv);

}  // namespace qkv::cli
