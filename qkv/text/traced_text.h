#pragma once
// A text on its way through a tokenizer, which can remember where each of its bytes came from.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/base/error.h"

namespace qkv::text {

/// Bytes [begin, end) of some text. 32 bits, because one is kept for each byte; texts are under 2 GiB.
struct Span {
  uint32_t begin = 0;
  uint32_t end = 0;
  bool operator==(const Span&) const = default;
};

/// The bytes of `text` and, if it is traced, the span of the user's text behind each of them.
///
/// `max_bytes` is how far the text may grow: rules from a file can double it again and again, so what they
/// make of a text is bounded by a multiple of what came in.
struct TracedText {
  std::string text;
  std::vector<Span> from;  // one a byte, or none at all when not traced
  bool traced = false;
  bool at_start = true;     // begins where the user's text begins
  uint32_t source_end = 0;  // where what this is about ends in the user's text
  int64_t max_bytes = 0;

  /// Bytes [begin, end) of the user's text, as they stand.
  static TracedText of(std::string_view whole, int64_t begin, int64_t end, bool traced);

  /// The source of bytes [begin, end) of this text. Only when traced.
  Span source(size_t begin, size_t end) const;

  TracedText slice(size_t begin, size_t end) const;
};

/// Makes a new text from an old one, front to back:
///
///     TextEdit edit(old);
///     edit.keep(0, 3);              // three bytes as they are
///     edit.put("ss", 3, 5);         // "ss" in place of bytes 3 and 4
///     edit.put(" ", 5, 5);          // a space that comes from nowhere
///     return edit.take();
///
/// Throws Error kUnsupported where the text grows past its max_bytes.
class TextEdit {
 public:
  explicit TextEdit(const TracedText& old);
  void keep(size_t begin, size_t end);
  void put(std::string_view bytes, size_t begin, size_t end);
  size_t size() const { return new_.text.size(); }
  TracedText take() { return std::move(new_); }

 private:
  void check_room(size_t more) const {
    if (static_cast<int64_t>(new_.text.size() + more) > new_.max_bytes) throw_too_long();
  }
  [[noreturn]] void throw_too_long() const;
  const TracedText& old_;
  TracedText new_;
};

}  // namespace qkv::text
