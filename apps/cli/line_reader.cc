#include "apps/cli/line_reader.h"

#include <unistd.h>

#include <cerrno>

#include "qkv/base/error.h"
#include "qkv/io/file.h"
#include "qkv/text/utf8.h"

namespace qkv::cli {
namespace {

constexpr size_t kLongestLine = size_t{64} << 20;

}  // namespace

LineReader::LineReader(const std::string& path)
    : path_(path.empty() || path == "-" ? "standard input" : path) {
  if (path.empty() || path == "-") {
    file_ = stdin;
    interactive_ = isatty(STDIN_FILENO) != 0;
    return;
  }
  QKV_CHECK(!io::is_directory(path), kIo, "{}: is a directory; give a text file", path);
  file_ = std::fopen(path.c_str(), "rb");
  if (file_ == nullptr) io::throw_io_error("read", path, errno);
}

LineReader::~LineReader() {
  if (file_ != nullptr && file_ != stdin) std::fclose(file_);
}

std::vector<std::string> LineReader::next(size_t most) {
  if (interactive_) most = 1;
  std::vector<std::string> lines;
  while (lines.size() < most) {
    std::string line;
    int c;
    while ((c = std::getc(file_)) != EOF && c != '\n') {
      line.push_back(static_cast<char>(c));
      QKV_CHECK(line.size() <= kLongestLine, kValue, "{}: line {} is longer than 64 MiB", path_, lines_ + 1);
    }
    if (c == EOF && std::ferror(file_)) io::throw_io_error("read", path_, errno);
    if (c == EOF && line.empty()) break;
    if (lines_ == 0 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
    if (line.ends_with('\r')) line.pop_back();
    ++lines_;
    if (const auto bad = utf8::first_invalid(line))
      throw_error(ErrorCode::kValue, "{}: line {} is not UTF-8 at byte {}; convert it first, for example with iconv -t UTF-8", path_, lines_, *bad + 1);
    lines.push_back(std::move(line));
    if (c == EOF) break;
  }
  return lines;
}

}  // namespace qkv::cli
