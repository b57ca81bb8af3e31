#pragma once
// Text as lines: the one way in which qkv reads text to translate, to train on and to score.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/io/file.h"

namespace qkv {

constexpr int64_t kMostLineBytes = int64_t{64} << 20, kMostTextBytes = int64_t{4} << 30;

/// Lines of a file or of standard input, some at a time, so that a long input streams and a person at a
/// terminal gets an answer after each line.
///
///   - A file may be gzip-compressed, whatever it is called.
///   - \n ends a line, and so does \r\n; nothing else does (a lone \r, U+2028, a form feed): line n of one
///     file would stop matching line n of another. The last line needs no end. A file that ends in an empty
///     line has that line.
///   - A byte-order mark at the very beginning is dropped. All other characters are kept, blanks at the end
///     of a line too.
///   - Lines are UTF-8. Error kFormat names file, line and byte otherwise, with a hint where the text looks
///     like UTF-16.
///   - A line has at most max_line_bytes. Error kFormat.
///
/// Errors of io::ByteStream besides.
class LineReader {
 public:
  /// "" and "-" are standard input.
  explicit LineReader(const std::string& path, int64_t max_line_bytes = kMostLineBytes);

  /// Up to `most` lines; one at a time from a terminal. Empty at the end.
  std::vector<std::string> next(size_t most);

 private:
  bool next_line(std::string& line);

  io::ByteStream bytes_;
  int64_t max_line_bytes_, lines_ = 0;
  std::string_view left_;  // of what bytes_ gave last
  bool at_end_ = false;
};

/// All lines of a LineReader. Error kFormat besides: more than max_bytes in all.
std::vector<std::string> read_lines(const std::string& path, int64_t max_bytes = kMostTextBytes);

/// How messages name `path`: itself, or "standard input".
std::string input_name(const std::string& path);

/// Nothing but white space (Unicode's property White_Space), or nothing at all.
bool is_blank(std::string_view line);

}  // namespace qkv
