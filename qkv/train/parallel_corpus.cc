#include "qkv/train/parallel_corpus.h"

#include "qkv/base/error.h"
#include "qkv/text/line_reader.h"

namespace qkv {
namespace {

void keep(ParallelText& text, std::string source, std::string target) {
  if (is_blank(source) || is_blank(target)) {
    ++text.skipped_empty;
    return;
  }
  text.source.push_back(std::move(source));
  text.target.push_back(std::move(target));
}

}  // namespace

ParallelText read_parallel_files(const std::string& source_path, const std::string& target_path) {
  std::vector<std::string> source = read_lines(source_path), target = read_lines(target_path);
  QKV_CHECK(source.size() == target.size(), kFormat,
            "parallel text: {} has {} lines, {} has {}; line n of one must be the translation of line n of "
            "the other",
            source_path, source.size(), target_path, target.size());
  ParallelText text;
  for (size_t i = 0; i < source.size(); ++i) keep(text, std::move(source[i]), std::move(target[i]));
  QKV_CHECK(!text.source.empty(), kFormat, "parallel text: {} and {} hold no sentence pair", source_path,
            target_path);
  return text;
}

ParallelText read_parallel_tsv(const std::string& path, bool swap) {
  ParallelText text;
  int64_t number = 0;
  for (const std::string& line : read_lines(path)) {
    ++number;
    if (is_blank(line)) {
      ++text.skipped_empty;
      continue;
    }
    const size_t tab = line.find('\t');
    QKV_CHECK(tab != std::string::npos, kFormat,
              "{}: line {} has no tab; each line must be: source TAB target", path, number);
    std::string first = line.substr(0, tab), second = line.substr(tab + 1);
    second = second.substr(0, second.find('\t'));
    if (swap) std::swap(first, second);
    keep(text, std::move(first), std::move(second));
  }
  QKV_CHECK(!text.source.empty(), kFormat, "parallel text: {} holds no sentence pair", path);
  return text;
}

}  // namespace qkv
