#pragma once
// Files of sentences to be scored: line n of one file belongs to line n of the other.

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace qkv::scores {

/// read_lines (text/line_reader.h) without the white space at the end of each line, as sacreBLEU does; "-" is
/// standard input. Error kFormat besides: no line at all.
std::vector<std::string> read_sentences(const std::string& path);

/// Throws Error kFormat with each file's count where two differ: "line counts differ: hyp.txt has 999 lines,
/// ref.txt has 1000; line n of each must belong together".
void check_same_counts(std::span<const std::pair<std::string, int64_t>> files);

}  // namespace qkv::scores
