#include "qkv/text/pattern.h"

#include "qkv/base/error.h"
#include "qkv/text/registry.h"
#include "qkv/text/utf8.h"

namespace qkv::text {

Pattern Pattern::from_json(const io::Json& json, const std::string& where) {
  Pattern out;
  if (json.is_object() && json.size() == 1 && json.contains("String")) {
    out.literal_ = io::get_string(json, "String", where);
  } else if (json.is_object() && json.size() == 1 && json.contains("Regex")) {
    out.regex_.emplace(io::get_string(json, "Regex", where), where);
  } else {
    throw_error(ErrorCode::kFormat,
                "{}: \"pattern\": needs {{\"String\": ...}} or {{\"Regex\": ...}}, got {}", where,
                escape(io::dump_json(json)));
  }
  return out;
}

io::Json Pattern::to_json() const {
  return regex_ ? io::Json{{"Regex", regex_->pattern()}} : io::Json{{"String", literal_}};
}

void Pattern::find_all(std::string_view text, std::vector<Span>& out) const {
  if (regex_) return regex_->find_all(text, out);
  out.clear();
  if (literal_.empty()) return;
  for (size_t at = text.find(literal_); at != std::string_view::npos;
       at = text.find(literal_, at + literal_.size()))
    out.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(at + literal_.size())});
}

std::string get_character(const io::Json& json, std::string_view key, const std::string& where) {
  const std::string out = io::get_string(json, key, where);
  QKV_CHECK(utf8::length(out) == 1, kFormat, "{}: \"{}\": needs one character, got {}", where, key,
            quote(out));
  return out;
}

}  // namespace qkv::text
