#pragma once
// Text files of one sentence a line, read so that line n of one file belongs to line n of the other.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qkv::scores {

/// The lines of `text`. Only \n ends a line (a lone \r, U+2028 or form feed does not: other tools' lines
/// would stop matching); a last line needs no \n. White space at the end of each line goes, as in sacreBLEU,
/// and with it the \r of Windows line ends; so does a byte-order mark at the very beginning. Throws Error
/// kFormat naming `where`, line and byte: text that is not UTF-8 (with a hint where it looks like UTF-16), or
/// no text at all.
std::vector<std::string> split_lines(std::string_view text, std::string_view where);

/// split_lines of a file, gzip-compressed or not; "-" is standard input. At most 1 GiB.
/// Throws Error kIo (missing, a folder, unreadable) and kFormat.
std::vector<std::string> read_lines(const std::string& path);

/// How messages name `path`: itself, or "standard input" for "-".
std::string input_name(const std::string& path);

/// Throws Error kValue with each file's count where two differ: "line counts differ: hyp.txt has 999 lines,
/// ref.txt has 1000; line n of each must belong together".
void check_same_counts(std::span<const std::pair<std::string, int64_t>> files);

}  // namespace qkv::scores
