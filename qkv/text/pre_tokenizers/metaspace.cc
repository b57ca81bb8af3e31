#include "qkv/text/pre_tokenizers/metaspace.h"

#include "qkv/text/pre_tokenizers/pre_tokenizer.h"
#include "qkv/text/pre_tokenizers/rewrite.h"
#include "qkv/text/registry.h"

namespace qkv::text {

namespace {

PrependScheme scheme_from(const std::string& text, const std::string& where) {
  if (text == "always") return PrependScheme::kAlways;
  if (text == "first") return PrependScheme::kFirst;
  if (text == "never") return PrependScheme::kNever;
  throw_error(ErrorCode::kUnsupported, "{}: \"prepend_scheme\": needs always, first or never, got {}", where,
              quote(text));
}

class Metaspace final : public PreTokenizer {
 public:
  explicit Metaspace(MetaspaceOptions options) : options_(std::move(options)) {}

  void apply(Words& words) const override {
    const std::string& mark = options_.replacement;
    const bool at_start = words.text.at_start;
    rewrite_words(words, [&](std::string_view word, size_t begin, TextEdit& edit) {
      const bool prepend = options_.prepend == PrependScheme::kAlways ||
                           (options_.prepend == PrependScheme::kFirst && at_start && begin == 0);
      if (prepend && !word.starts_with(' ') && !word.starts_with(mark)) edit.put(mark, begin, begin);
      size_t kept = 0;
      for (size_t i = word.find(' '); i != std::string_view::npos; i = word.find(' ', i + 1)) {
        edit.keep(begin + kept, begin + i);
        edit.put(mark, begin + i, begin + i + 1);
        kept = i + 1;
      }
      edit.keep(begin + kept, begin + word.size());
    });
    if (!options_.split) return;
    const auto find = [&](std::string_view word, std::vector<Span>& matches) {
      matches.clear();
      for (size_t i = word.find(mark); i != std::string_view::npos; i = word.find(mark, i + mark.size()))
        matches.push_back({static_cast<uint32_t>(i), static_cast<uint32_t>(i + mark.size())});
    };
    split_words(words, find, SplitBehavior::kMergedWithNext);
  }

  io::Json to_json() const override { return metaspace_to_json(options_); }

 private:
  MetaspaceOptions options_;
};

}  // namespace

MetaspaceOptions metaspace_from_json(const io::Json& json, const std::string& where) {
  MetaspaceOptions out;
  out.replacement = get_character(json, "replacement", where);
  out.split = io::get_bool_or(json, "split", true, where);
  if (json.contains("prepend_scheme")) {
    out.prepend = scheme_from(io::get_string(json, "prepend_scheme", where), where);
  } else if (!io::get_bool_or(json, "add_prefix_space", true, where)) {
    out.prepend = PrependScheme::kNever;
  }
  return out;
}

io::Json metaspace_to_json(const MetaspaceOptions& options) {
  const char* scheme = options.prepend == PrependScheme::kAlways  ? "always"
                       : options.prepend == PrependScheme::kFirst ? "first"
                                                                  : "never";
  return {{"type", "Metaspace"},
          {"replacement", options.replacement},
          {"prepend_scheme", scheme},
          {"split", options.split}};
}

PreTokenizerPtr make_metaspace(const io::Json& json, const std::string& where) {
  return std::make_unique<Metaspace>(metaspace_from_json(json, where));
}

}  // namespace qkv::text
