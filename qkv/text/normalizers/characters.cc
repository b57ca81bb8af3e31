// Normalizers that look at characters: the normal forms of Unicode, and lower case.

#include <algorithm>

#include "qkv/text/normalizers/normalizer.h"
#include "qkv/text/unicode.h"
#include "qkv/text/utf8.h"

namespace qkv::text {

namespace {

using unicode::NormalForm;

bool is_ascii(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

class UnicodeNormalizer final : public Normalizer {
 public:
  UnicodeNormalizer(NormalForm form, const char* type) : form_(form), type_(type) {}

  // Goes from one boundary to the next, so that each piece of the result knows the few characters it came
  // from: "e" + U+0301 becomes "é", which claims both.
  TracedText apply(TracedText text) const override {
    if (is_ascii(text.text)) return text;
    TextEdit edit(text);
    size_t piece = 0;  // where the characters not yet written begin
    const auto write_until = [&](size_t end) {
      if (end == piece) return;
      const std::string_view old = std::string_view(text.text).substr(piece, end - piece);
      if (is_ascii(old))
        edit.keep(piece, end);
      else
        edit.put(unicode::normalized(old, form_), piece, end);
      piece = end;
    };
    utf8::for_each(text.text, [&](char32_t c, size_t begin, size_t) {
      if (unicode::is_boundary(c, form_)) write_until(begin);
    });
    write_until(text.text.size());
    return edit.take();
  }

  io::Json to_json() const override { return {{"type", type_}}; }

 private:
  NormalForm form_;
  const char* type_;
};

class Lowercase final : public Normalizer {
 public:
  TracedText apply(TracedText text) const override {
    TextEdit edit(text);
    std::string lower;
    utf8::for_each(text.text, [&](char32_t c, size_t begin, size_t end) {
      lower.clear();
      unicode::append_lower(lower, c);
      edit.put(lower, begin, end);
    });
    return edit.take();
  }
  io::Json to_json() const override { return {{"type", "Lowercase"}}; }
};

}  // namespace

NormalizerPtr make_nfc(const io::Json&, const std::string&) {
  return std::make_unique<UnicodeNormalizer>(NormalForm::kNfc, "NFC");
}
NormalizerPtr make_nfd(const io::Json&, const std::string&) {
  return std::make_unique<UnicodeNormalizer>(NormalForm::kNfd, "NFD");
}
NormalizerPtr make_nfkc(const io::Json&, const std::string&) {
  return std::make_unique<UnicodeNormalizer>(NormalForm::kNfkc, "NFKC");
}
NormalizerPtr make_nfkd(const io::Json&, const std::string&) {
  return std::make_unique<UnicodeNormalizer>(NormalForm::kNfkd, "NFKD");
}
NormalizerPtr make_lowercase(const io::Json&, const std::string&) { return std::make_unique<Lowercase>(); }

}  // namespace qkv::text
