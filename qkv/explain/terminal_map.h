#pragma once
// One attention matrix as a picture of characters.

#include <cstdint>
#include <span>
#include <string>

#include "qkv/tensor/tensor.h"

namespace qkv::explain {

struct TerminalMapOptions {
  int64_t width = 100;  // columns to stay within, 40 or more
  bool unicode = true;  // false: nothing but printable ASCII, other characters as '?'
  bool color = false;   // ANSI: the largest weight of each row stands out, small ones step back
};

/// Source words across, target words down, the darker the cell the larger the weight:
///
///           ╭ Ein
///           │  ╭ Hund
///           │  │  ╭ läuft
///        a  ▓▓ ·  ·   Ein 68%
///      dog  ·  ██ ·   Hund 91%
///     runs  ·  ░░ ▓▓  läuft 66%
///
/// Every source word is readable as it is, at the head of a line that falls into its column. A sentence that
/// is too wide for the width is drawn in several parts, one below the other. Lines end in '\n' and in nothing
/// blank.
///
///   weights  [n target words, n source words] f32, in 0 .. 1
///
/// Words may hold anything: what could control the terminal is replaced (printable() in words.h).
/// Error kShape (sizes disagree), kValue (width under 40).
std::string terminal_map(const Tensor& weights, std::span<const std::string> target_words,
                         std::span<const std::string> source_words, const TerminalMapOptions& options = {});

}  // namespace qkv::explain
