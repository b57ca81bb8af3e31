#include "qkv/scores/read_lines.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "qkv/base/error.h"
#include "qkv/io/file.h"
#include "qkv/scores/python_text.h"
#include "qkv/text/utf8.h"

namespace qkv::scores {
namespace {

constexpr int64_t kMaxBytes = int64_t{1} << 30;
constexpr std::string_view kMark = "\xEF\xBB\xBF";

std::string read_standard_input() {
  std::string text;
  std::array<char, 1 << 16> block;
  while (const size_t n = std::fread(block.data(), 1, block.size(), stdin)) {
    QKV_CHECK(static_cast<int64_t>(text.size() + n) <= kMaxBytes, kFormat,
              "standard input: more than {} bytes; score the text in parts", kMaxBytes);
    text.append(block.data(), n);
  }
  QKV_CHECK(std::ferror(stdin) == 0, kIo, "standard input: {}", std::strerror(errno));
  return text;
}

// Where 16-bit text begins with its mark the cause is sure, and more use than the byte.
const char* hint(std::string_view text) {
  const bool wide = text.substr(0, 2) == "\xFF\xFE" || text.substr(0, 2) == "\xFE\xFF";
  return wide ? "it looks like UTF-16: iconv -f UTF-16 -t UTF-8"
              : "convert it first, as by iconv -f LATIN1 -t UTF-8";
}

}  // namespace

std::string input_name(const std::string& path) { return path == "-" ? "standard input" : path; }

std::vector<std::string> split_lines(std::string_view text, std::string_view where) {
  QKV_CHECK(!text.empty(), kFormat, "{}: is empty; needs one sentence a line", where);
  if (const auto bad = utf8::first_invalid(text)) {
    const auto at = static_cast<size_t>(*bad);
    const auto line = 1 + std::count(text.begin(), text.begin() + *bad, '\n');
    const size_t newline = text.substr(0, at).rfind('\n');
    const size_t column = newline == std::string_view::npos ? at + 1 : at - newline;
    throw_error(ErrorCode::kFormat, "{}: line {}, byte {}: 0x{:02x} is not UTF-8; {}", where, line, column,
                static_cast<unsigned char>(text[at]), hint(text));
  }
  if (text.substr(0, kMark.size()) == kMark) text.remove_prefix(kMark.size());
  QKV_CHECK(!text.empty(), kFormat, "{}: holds a byte-order mark and no text; needs one sentence a line",
            where);
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(rstrip(text.substr(0, end)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

std::vector<std::string> read_lines(const std::string& path) {
  const std::string text = path == "-" ? read_standard_input() : io::read_maybe_gz(path, kMaxBytes);
  return split_lines(text, input_name(path));
}

void check_same_counts(std::span<const std::pair<std::string, int64_t>> files) {
  const bool same =
      std::all_of(files.begin(), files.end(), [&](const auto& f) { return f.second == files[0].second; });
  if (same) return;
  std::string list;
  for (const auto& [file, count] : files)
    list += fmt::format("{}{} has {}{}", list.empty() ? "" : ", ", file, count, list.empty() ? " lines" : "");
  throw_error(ErrorCode::kValue, "line counts differ: {}; line n of each must belong together", list);
}

}  // namespace qkv::scores
