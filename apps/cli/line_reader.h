#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace qkv::cli {

/// Lines of a file or of standard input, some at a time, so that a long input streams and a person at a
/// terminal gets an answer after each line. \n and \r\n end lines, nothing else; a byte-order mark at the
/// start is dropped.
class LineReader {
 public:
  /// "" or "-" is standard input. Error kIo: missing, a directory.
  explicit LineReader(const std::string& path);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  /// Up to `most` lines; one at a time from a terminal. Empty at the end. Error kIo; kValue: a line over 64
  /// MiB.
  std::vector<std::string> next(size_t most);
  int64_t lines_read() const { return lines_; }

 private:
  std::string path_;
  std::FILE* file_ = nullptr;
  bool interactive_ = false;
  int64_t lines_ = 0;
};

}  // namespace qkv::cli
