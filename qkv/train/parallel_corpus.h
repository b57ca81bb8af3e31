#pragma once
// Sentence pairs from files: two aligned plain-text files, or one tab-separated file.

#include <string>
#include <utility>
#include <vector>

namespace qkv {

struct ParallelText {
  std::vector<std::string> source, target;  // equal sizes; pair i is (source[i], target[i])
  int64_t skipped_empty = 0;                // pairs left out because a side was empty
};

/// Lines i of the two files are a pair; text/line_reader.h says what a line is. A pair with a blank side is
/// left out. Errors: those of read_lines, and kFormat (different line counts, both given; no pair at all).
ParallelText read_parallel_files(const std::string& source_path, const std::string& target_path);

/// Each line is source TAB target; columns after the second are ignored (`swap`: target TAB source). The same
/// care.
ParallelText read_parallel_tsv(const std::string& path, bool swap = false);

}  // namespace qkv
