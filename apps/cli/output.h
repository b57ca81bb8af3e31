#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "qkv/io/atomic_file.h"

namespace qkv::cli {

/// Where what a command makes goes. "", "-" and /dev/stdout are standard output; /dev/stderr, /dev/fd/3 and
/// their like are what is open there. A device or a pipe is written to as it is. Anything else is a file:
/// wholly new when commit() returns, untouched before.
///
/// Throws Error kIo naming the path and the reason.
class Output {
 public:
  explicit Output(const std::string& path);
  ~Output();
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  bool is_terminal() const;
  /// `text` as it is; on a terminal, without what could control it (explain::printable).
  std::string shown(std::string text) const;
  void write(std::string_view text);
  void commit();

 private:
  std::string name_;
  std::unique_ptr<io::AtomicFile> file_;  // or
  int fd_ = -1;
};

/// What was printed so far has arrived, or Error kIo says why not: a full disk shows here and not before.
void flush_stdout();

/// An Output of one text.
void write_output(const std::string& path, std::string_view text);

}  // namespace qkv::cli
