#pragma once

#include <CLI/CLI.hpp>
#include <limits>
#include <string>
#include <vector>

#include "qkv/explain/chart.h"

namespace qkv::cli {

/// qkv lab cost|heads|positions|sweep: experiments with attention.
void add_lab_command(CLI::App& app);

// One file each.
void add_lab_cost(CLI::App& lab);
void add_lab_heads(CLI::App& lab);
void add_lab_positions(CLI::App& lab);
void add_lab_sweep(CLI::App& lab);

/// Writes the charts to a file, "-" for standard output, and says so; "" writes nothing.
void write_charts(const std::string& path, const std::vector<explain::Chart>& charts, int columns);

/// Says at the start of long work how long it will take: "qkv lab cost: 64 cases; about 1:05 with 2 threads
/// (--lengths and --most-seconds change it)".
void note_expected(const std::string& command, const std::string& work, double seconds,
                   const std::string& flags);

/// "8.03", "0.0123": three digits that matter; "-" for what is no number.
std::string brief(double value);

/// A check of an option: a finite number above 0, and at most `most`. CLI11's lets NaN pass.
CLI::Validator positive_number(double most = std::numeric_limits<double>::max());

/// "4,8,16": an option of numbers from 1 on.
void add_lengths_option(CLI::App& app, const std::string& flag, std::vector<int64_t>& lengths,
                        const std::string& help);

}  // namespace qkv::cli
