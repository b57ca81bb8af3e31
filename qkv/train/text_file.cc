#include "qkv/train/text_file.h"

#include <algorithm>
#include <iterator>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/text/line_reader.h"

namespace qkv {
namespace {

std::string joined(const std::string* begin, const std::string* end) {
  std::string text;
  for (const std::string* line = begin; line != end; ++line) {
    if (line != begin) text += '\n';
    text += *line;
  }
  return text;
}

}  // namespace

Documents documents_from_name(std::string_view name) {
  if (name == "file") return Documents::kFile;
  if (name == "paragraphs") return Documents::kParagraphs;
  if (name == "lines") return Documents::kLines;
  throw_error(ErrorCode::kValue, "documents: {} is not one of file, paragraphs, lines", quote(name));
}

std::vector<std::string> read_documents(const std::string& path, Documents documents) {
  const std::vector<std::string> lines = read_lines(path);
  std::vector<std::string> out;
  const std::string *begin = lines.data(), *const end = begin + lines.size();
  while ((begin = std::find_if_not(begin, end, is_blank)) != end) {
    const std::string* last = end;
    if (documents == Documents::kParagraphs) last = std::find_if(begin, end, is_blank);
    if (documents == Documents::kLines) last = begin + 1;
    const std::string* after = last;
    while (is_blank(*(after - 1))) --after;
    out.push_back(joined(begin, after));
    begin = last;
  }
  QKV_CHECK(!out.empty(), kFormat, "{}: holds no text", escape(input_name(path), 4096));
  return out;
}

int64_t bytes_of(const std::vector<std::string>& documents) {
  int64_t n = 0;
  for (const std::string& document : documents) n += static_cast<int64_t>(document.size());
  return n;
}

std::vector<std::string> take_tail(std::vector<std::string>& documents, double share) {
  QKV_CHECK(share > 0 && share < 1, kValue, "text: the share held out is {}, needs to be above 0 and below 1",
            share);
  const auto wanted = static_cast<size_t>(share * static_cast<double>(bytes_of(documents)));
  std::vector<std::string> tail;
  if (documents.size() == 1) {
    std::string& text = documents[0];
    const size_t cut = text.find('\n', text.size() - std::min(text.size(), wanted));
    QKV_CHECK(cut != std::string::npos && cut > 0 && cut + 1 < text.size(), kFormat,
              "text: no line begins in the last {} bytes, so nothing can be held out there; give a file for "
              "validation",
              wanted);
    tail.push_back(text.substr(cut + 1));
    text.resize(cut);
    return tail;
  }
  size_t first = documents.size(), held = 0;
  while (first > 1 && held < wanted) held += documents[--first].size();
  QKV_CHECK(first < documents.size(), kFormat, "text: {} documents are too few to hold {} of them out",
            documents.size(), share);
  std::move(documents.begin() + static_cast<std::ptrdiff_t>(first), documents.end(),
            std::back_inserter(tail));
  documents.resize(first);
  return tail;
}

}  // namespace qkv
