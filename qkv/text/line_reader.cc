#include "qkv/text/line_reader.h"

#include <algorithm>
#include <utility>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/text/unicode.h"
#include "qkv/text/utf8.h"

namespace qkv {
namespace {

constexpr std::string_view kMark = "\xEF\xBB\xBF";
constexpr int64_t kPathInMessage = 4096;

// Where 16-bit text begins with its mark the cause is sure, and more use than the byte.
const char* hint(std::string_view line) {
  const bool wide = line.starts_with("\xFF\xFE") || line.starts_with("\xFE\xFF");
  return wide ? "it looks like UTF-16: iconv -f UTF-16 -t UTF-8"
              : "convert it first, for example with iconv -f LATIN1 -t UTF-8";
}

}  // namespace

LineReader::LineReader(const std::string& path, int64_t max_line_bytes)
    : bytes_(path.empty() ? "-" : path), max_line_bytes_(max_line_bytes) {}

bool LineReader::next_line(std::string& line) {
  bool ended = false;
  while (!ended && !at_end_) {
    if (left_.empty()) left_ = bytes_.next();
    at_end_ = left_.empty();
    const size_t end = std::min(left_.find('\n'), left_.size());
    ended = end < left_.size();
    line += left_.substr(0, end);
    left_.remove_prefix(end + (ended ? 1 : 0));
    QKV_CHECK(static_cast<int64_t>(line.size()) <= max_line_bytes_, kFormat,
              "{}: line {} is longer than {} bytes; is it text?", escape(bytes_.name(), kPathInMessage),
              lines_ + 1, max_line_bytes_);
  }
  if (const auto bad = utf8::first_invalid(line))
    throw_error(ErrorCode::kFormat, "{}: line {} is not UTF-8 at byte {} (0x{:02x}); {}",
                escape(bytes_.name(), kPathInMessage), lines_ + 1, *bad + 1,
                static_cast<unsigned char>(line[static_cast<size_t>(*bad)]), hint(line));
  if (lines_ == 0 && line.starts_with(kMark)) line.erase(0, kMark.size());
  if (!ended && line.empty()) return false;
  if (line.ends_with('\r')) line.pop_back();
  ++lines_;
  return true;
}

std::vector<std::string> LineReader::next(size_t most) {
  if (bytes_.is_terminal()) most = 1;
  std::vector<std::string> lines;
  for (std::string line; lines.size() < most && next_line(line); line.clear())
    lines.push_back(std::move(line));
  return lines;
}

std::vector<std::string> read_lines(const std::string& path, int64_t max_bytes) {
  constexpr size_t kLinesAtOnce = 4096;
  LineReader reader(path);
  std::vector<std::string> all;
  int64_t bytes = 0;
  for (auto lines = reader.next(kLinesAtOnce); !lines.empty(); lines = reader.next(kLinesAtOnce))
    for (std::string& line : lines) {
      bytes += static_cast<int64_t>(line.size()) + 1;
      QKV_CHECK(bytes <= max_bytes, kFormat,
                "{}: needs to be at most {} bytes of text, is larger; cut it in parts",
                escape(input_name(path), kPathInMessage), max_bytes);
      all.push_back(std::move(line));
    }
  return all;
}

std::string input_name(const std::string& path) {
  return path.empty() || path == "-" ? "standard input" : path;
}

bool is_blank(std::string_view line) {
  bool blank = true;
  for (size_t i = 0; blank && i < line.size();) {
    const utf8::Step s = utf8::step(line, i);
    blank = unicode::is_whitespace(s.value);
    i += static_cast<size_t>(s.length);
  }
  return blank;
}

}  // namespace qkv
