#pragma once

#include <fmt/core.h>

#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "qkv/io/atomic_file.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace qkv::cli {

/// Thrown where standard output's reader has left (head, a pager that was closed): nobody is there to be
/// told, and nothing is wrong. main() ends the program as SIGPIPE would have.
struct ReaderLeft : std::exception {
  const char* what() const noexcept override { return "the reader of standard output left"; }
};

/// Where what a command makes goes. "", "-" and /dev/stdout are standard output; /dev/stderr, /dev/fd/3 and
/// their like are what is open there. A device or a pipe is written to as it is. Anything else is a file:
/// wholly new when commit() returns, untouched before.
///
/// Throws Error kIo naming the path and the reason; ReaderLeft.
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

/// Text to standard output, buffered. Errors as of flush_stdout().
void print_text(std::string_view text);
template <class... Args>
void print(fmt::format_string<Args...> text, Args&&... args) {
  print_text(fmt::format(text, std::forward<Args>(args)...));
}

/// What was printed so far has arrived, or Error kIo says why not: a full disk may show here and not before.
/// ReaderLeft where nobody reads it.
void flush_stdout();

/// A line to standard error for whoever reads it. Never throws: a closed or full one must not fail what was
/// asked for.
void note_text(const std::string& text) noexcept;
template <class... Args>
void note(fmt::format_string<Args...> text, Args&&... args) {
  note_text(fmt::format(text, std::forward<Args>(args)...));
}

/// A line at the end of a terminal's standard error that the next one replaces: a progress bar. Whatever is
/// noted or printed takes its place first; "" just takes it away.
void show_status(const std::string& line) noexcept;

/// Error kValue where two names that are written or read stand for one file; what: "--html", "-o".
void check_different_files(const std::string& a, const std::string& what_a, const std::string& b,
                           const std::string& what_b);

/// An Output of one text.
void write_output(const std::string& path, std::string_view text);

/// An option that takes the name of what is written: an Output. That a file can be is tried (and nothing left
/// there) as soon as the call is read, so that no long work is done for a folder that is not there. Error
/// kIo.
CLI::Option* add_output_option(CLI::App& command, const std::string& names, std::string& path,
                               const std::string& help);

}  // namespace qkv::cli
