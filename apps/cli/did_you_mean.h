#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace qkv::cli {

/// "Did you mean --beam-size?" for the first argument that no command or option knows, or "".
std::string did_you_mean(const CLI::App& app, int argc, char** argv);

/// What is wrong with a call: `error`'s own words; where a command stops short of saying which of its
/// commands is meant, which there are; where an option got two values at once, how to give it two.
std::string message_of(const CLI::ParseError& error, const CLI::App& app, int argc, char** argv);

}  // namespace qkv::cli
