// Normalizers that put in, take out or replace: Strip, Replace, Prepend.

#include "qkv/text/normalizers/normalizer.h"
#include "qkv/text/pattern.h"
#include "qkv/text/unicode.h"
#include "qkv/text/utf8.h"

namespace qkv::text {

namespace {

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}

  TracedText apply(TracedText text) const override {
    size_t first = text.text.size(), last = 0;  // around all that is not white space
    utf8::for_each(text.text, [&](char32_t c, size_t begin, size_t end) {
      if (unicode::is_whitespace(c)) return;
      first = std::min(first, begin);
      last = end;
    });
    const size_t begin = left_ ? first : 0;
    const size_t end = right_ ? std::max(last, begin) : text.text.size();
    TextEdit edit(text);
    edit.keep(begin, end);
    return edit.take();
  }

  io::Json to_json() const override {
    return {{"type", "Strip"}, {"strip_left", left_}, {"strip_right", right_}};
  }

 private:
  bool left_, right_;
};

class Replace final : public Normalizer {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  TracedText apply(TracedText text) const override {
    std::vector<Span> places;
    pattern_.find_all(text.text, places);
    if (places.empty()) return text;
    TextEdit edit(text);
    size_t at = 0;
    for (const Span& place : places) {
      edit.keep(at, place.begin);
      edit.put(content_, place.begin, place.end);
      at = place.end;
    }
    edit.keep(at, text.text.size());
    return edit.take();
  }

  io::Json to_json() const override {
    return {{"type", "Replace"}, {"pattern", pattern_.to_json()}, {"content", content_}};
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string prepend) : prepend_(std::move(prepend)) {}

  TracedText apply(TracedText text) const override {
    if (text.text.empty()) return text;
    TextEdit edit(text);
    edit.put(prepend_, 0, 0);
    edit.keep(0, text.text.size());
    return edit.take();
  }

  io::Json to_json() const override { return {{"type", "Prepend"}, {"prepend", prepend_}}; }

 private:
  std::string prepend_;
};

}  // namespace

NormalizerPtr make_strip(const io::Json& json, const std::string& where) {
  return std::make_unique<Strip>(io::get_bool(json, "strip_left", where),
                                 io::get_bool(json, "strip_right", where));
}

NormalizerPtr make_replace(const io::Json& json, const std::string& where) {
  return std::make_unique<Replace>(Pattern::from_json(io::get_object(json, "pattern", where), where),
                                   io::get_string(json, "content", where));
}

NormalizerPtr make_prepend(const io::Json& json, const std::string& where) {
  return std::make_unique<Prepend>(io::get_string(json, "prepend", where));
}

}  // namespace qkv::text
