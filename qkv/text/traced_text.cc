#include "qkv/text/traced_text.h"

#include <algorithm>

namespace qkv::text {

namespace {

// NFKC makes one character up to 11 times as long, the byte alphabet doubles that; a short text may also have
// something put before it.
int64_t growth_limit(int64_t bytes) { return 4096 + 32 * bytes; }

}  // namespace

TracedText TracedText::of(std::string_view whole, int64_t begin, int64_t end, bool traced) {
  TracedText out;
  out.text = whole.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  out.traced = traced;
  out.at_start = begin == 0;
  out.source_end = static_cast<uint32_t>(end);
  out.max_bytes = growth_limit(end - begin);
  if (traced) {
    out.from.resize(out.text.size());
    for (size_t i = 0; i < out.from.size(); ++i) {
      const auto at = static_cast<uint32_t>(static_cast<size_t>(begin) + i);
      out.from[i] = {at, at + 1};
    }
  }
  return out;
}

Span TracedText::source(size_t begin, size_t end) const {
  if (begin >= end) {
    const uint32_t at = begin < from.size() ? from[begin].begin : source_end;
    return {at, at};
  }
  // What was put in from nowhere has an empty span; it must not widen that of its neighbours, but a normal
  // form may also have reordered bytes, so the smallest and largest count, not the first and last.
  Span out = from[begin];
  for (size_t i = begin + 1; i < end; ++i) {
    out.begin = std::min(out.begin, from[i].begin);
    out.end = std::max(out.end, from[i].end);
  }
  return out;
}

TracedText TracedText::slice(size_t begin, size_t end) const {
  TracedText out;
  out.text = text.substr(begin, end - begin);
  out.traced = traced;
  out.max_bytes = max_bytes;
  out.at_start = at_start && begin == 0;
  out.source_end = source_end;
  if (traced) {
    const auto first = from.begin() + static_cast<ptrdiff_t>(begin);
    out.from.assign(first, first + static_cast<ptrdiff_t>(end - begin));
    out.source_end = source(begin, end).end;
  }
  return out;
}

TextEdit::TextEdit(const TracedText& old) : old_(old) {
  new_.traced = old.traced;
  new_.at_start = old.at_start;
  new_.source_end = old.source_end;
  new_.max_bytes = old.max_bytes;
  new_.text.reserve(old.text.size() + old.text.size() / 4 + 16);
  if (old.traced) new_.from.reserve(new_.text.capacity());
}

void TextEdit::keep(size_t begin, size_t end) {
  check_room(end - begin);
  new_.text.append(old_.text, begin, end - begin);
  if (!new_.traced) return;
  const auto first = old_.from.begin();
  new_.from.insert(new_.from.end(), first + static_cast<ptrdiff_t>(begin),
                   first + static_cast<ptrdiff_t>(end));
}

void TextEdit::put(std::string_view bytes, size_t begin, size_t end) {
  check_room(bytes.size());
  new_.text.append(bytes);
  if (new_.traced) new_.from.resize(new_.text.size(), old_.source(begin, end));
}

void TextEdit::throw_too_long() const {
  throw_error(ErrorCode::kUnsupported,
              "tokenizer: a text grows past {} bytes on its way through the normaliser and pre-tokeniser; "
              "needs rules in tokenizer.json that do not multiply it",
              new_.max_bytes);
}

}  // namespace qkv::text
