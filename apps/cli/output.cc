#include "apps/cli/output.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <utility>

#include "qkv/base/error.h"
#include "qkv/explain/words.h"
#include "qkv/io/file.h"

namespace qkv::cli {
namespace {

// The descriptor that a path stands for. Opened by that name, a file under standard output would be written
// from its start once more, and AtomicFile would put another one in its place.
std::optional<int> descriptor_of(std::string_view path) {
  if (path.empty() || path == "-" || path == "/dev/stdout") return STDOUT_FILENO;
  if (path == "/dev/stderr") return STDERR_FILENO;
  for (const std::string_view folder : {"/dev/fd/", "/proc/self/fd/"}) {
    if (!path.starts_with(folder)) continue;
    int fd = -1;
    const auto [end, error] = std::from_chars(path.data() + folder.size(), path.data() + path.size(), fd);
    if (error == std::errc() && end == path.data() + path.size() && fd >= 0) return fd;
  }
  return std::nullopt;
}

bool is_device_or_pipe(const std::string& path) {
  struct stat there {};
  return ::stat(path.c_str(), &there) == 0 && !S_ISREG(there.st_mode) && !S_ISDIR(there.st_mode);
}

constexpr const char* kStandardOutput = "standard output";

[[noreturn]] void throw_write_error(const std::string& name, int error_number) {
  if (error_number == EPIPE && name == kStandardOutput) throw ReaderLeft();
  io::throw_io_error("writing", name, error_number);
}

bool status_shown = false;

void write_stderr(std::string_view text) noexcept {
  (void)std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

// Of a stream that failed earlier the reason is gone; a pipe still says whether anyone reads it.
bool nobody_reads_stdout() {
  pollfd out = {.fd = STDOUT_FILENO, .events = 0, .revents = 0};
  return ::poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
}

}  // namespace

Output::Output(const std::string& path) : name_(path) {
  const std::optional<int> open = descriptor_of(path);
  if (open == STDOUT_FILENO) {
    name_ = kStandardOutput;
    flush_stdout();  // what was printed before comes before
  }
  if (open)
    fd_ = ::fcntl(*open, F_DUPFD_CLOEXEC, 0);
  else if (is_device_or_pipe(path))
    fd_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
  else
    file_ = std::make_unique<io::AtomicFile>(path);
  if (!file_ && fd_ < 0) io::throw_io_error("writing", name_, errno);
}

Output::~Output() {
  if (fd_ >= 0) ::close(fd_);
}

bool Output::is_terminal() const { return fd_ >= 0 && ::isatty(fd_) != 0; }

std::string Output::shown(std::string text) const { return is_terminal() ? explain::printable(text) : text; }

void Output::write(std::string_view text) {
  if (file_) return file_->write(text);
  while (!text.empty()) {
    const ssize_t done = ::write(fd_, text.data(), text.size());
    if (done < 0 && errno != EINTR) throw_write_error(name_, errno);
    if (done > 0) text.remove_prefix(static_cast<size_t>(done));
  }
}

void Output::commit() {
  if (file_) return file_->commit();
  if (::close(std::exchange(fd_, -1)) != 0 && errno != EINTR) throw_write_error(name_, errno);
}

void print_text(std::string_view text) {
  show_status("");
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size())
    throw_write_error(kStandardOutput, errno);
}

void flush_stdout() {
  if (std::fflush(stdout) != 0) throw_write_error(kStandardOutput, errno);
  if (std::ferror(stdout) == 0) return;
  if (nobody_reads_stdout()) throw ReaderLeft();
  throw_error(ErrorCode::kIo, "writing {}: not all of it arrived; is the disk full?", kStandardOutput);
}

void note_text(const std::string& text) noexcept {
  show_status("");
  write_stderr(text);
}

void show_status(const std::string& line) noexcept {
  if (std::exchange(status_shown, !line.empty())) write_stderr("\r\033[K");
  write_stderr(line);
}

void check_different_files(const std::string& a, const std::string& what_a, const std::string& b,
                           const std::string& what_b) {
  if (a.empty() || b.empty() || a == "-" || b == "-") return;
  namespace fs = std::filesystem;
  std::error_code ignored;
  const bool same =
      fs::equivalent(a, b, ignored) || fs::weakly_canonical(a, ignored) == fs::weakly_canonical(b, ignored);
  QKV_CHECK(!same || is_device_or_pipe(a), kValue, "{} and {} name the same file, {}", what_a, what_b, a);
}

void write_output(const std::string& path, std::string_view text) {
  Output output(path);
  output.write(text);
  output.commit();
}

CLI::Option* add_output_option(CLI::App& command, const std::string& names, std::string& path,
                               const std::string& help) {
  return command.add_option(names, path, help)->type_name("FILE")->each([](const std::string& given) {
    if (!descriptor_of(given) && !is_device_or_pipe(given)) io::AtomicFile tried(given);
  });
}

}  // namespace qkv::cli
