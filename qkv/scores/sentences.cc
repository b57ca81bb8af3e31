#include "qkv/scores/sentences.h"

#include <fmt/format.h>

#include <algorithm>

#include "qkv/base/error.h"
#include "qkv/scores/python_text.h"
#include "qkv/text/line_reader.h"

namespace qkv::scores {

std::vector<std::string> read_sentences(const std::string& path) {
  std::vector<std::string> lines = read_lines(path);
  QKV_CHECK(!lines.empty(), kFormat, "{}: is empty; needs one sentence a line", input_name(path));
  for (std::string& line : lines) line.resize(rstrip(line).size());
  return lines;
}

void check_same_counts(std::span<const std::pair<std::string, int64_t>> files) {
  const bool same =
      std::all_of(files.begin(), files.end(), [&](const auto& f) { return f.second == files[0].second; });
  if (same) return;
  std::string list;
  for (const auto& [file, count] : files)
    list += fmt::format("{}{} has {}{}", list.empty() ? "" : ", ", file, count, list.empty() ? " lines" : "");
  throw_error(ErrorCode::kFormat, "line counts differ: {}; line n of each must belong together", list);
}

}  // namespace qkv::scores
