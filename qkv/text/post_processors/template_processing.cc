// TemplateProcessing: "single": [<s>, A, </s>].

#include <algorithm>
#include <limits>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/text/post_processors/post_processor.h"

namespace qkv::text {

namespace {

class TemplateProcessing final : public PostProcessor {
 public:
  TemplateProcessing(const io::Json& json, const std::string& where) : json_(json) {
    const io::Json& specials = io::get_object(json, "special_tokens", where);
    bool after = false;
    for (const io::Json& part : io::get_array(json, "single", where)) {
      QKV_CHECK(part.is_object() && part.size() == 1, kFormat,
                "{}: \"single\": needs {{\"SpecialToken\": ...}} or {{\"Sequence\": ...}}, got {}", where,
                escape(io::dump_json(part)));
      if (part.contains("Sequence")) {
        const std::string id = io::get_string(io::get_object(part, "Sequence", where), "id", where);
        QKV_CHECK(id == "A" && !after, kFormat, "{}: \"single\": needs the sequence A once, got {}{}", where,
                  quote(id), after ? " besides" : "");
        after = true;
      } else {
        const std::string token = io::get_string(io::get_object(part, "SpecialToken", where), "id", where);
        const std::string what = where + ": \"special_tokens\": " + quote(token);
        QKV_CHECK(specials.contains(token), kFormat, "{} is missing", what);
        for (const io::Json& id : io::get_array(specials[token], "ids", what))
          (after ? after_ : before_)
              .push_back(static_cast<int32_t>(
                  io::as_int(id, 0, std::numeric_limits<int32_t>::max(), "an id", what)));
      }
    }
    QKV_CHECK(after, kFormat, "{}: \"single\": the sequence A is missing", where);
  }

  void apply(std::vector<Token>& tokens, int64_t text_bytes) const override {
    std::vector<Token> before;
    for (const int32_t id : before_) before.push_back({id, 0, 0});
    tokens.insert(tokens.begin(), before.begin(), before.end());
    for (const int32_t id : after_) tokens.push_back({id, text_bytes, text_bytes});
  }

  int64_t max_id() const override {
    int64_t max = -1;
    for (const auto* ids : {&before_, &after_})
      for (const int32_t id : *ids) max = std::max<int64_t>(max, id);
    return max;
  }

  // "pair" and the type ids are kept for others; encode() has one text.
  io::Json to_json() const override { return json_; }

 private:
  io::Json json_;
  std::vector<int32_t> before_, after_;
};

}  // namespace

PostProcessorPtr make_template_processing(const io::Json& json, const std::string& where) {
  return std::make_unique<TemplateProcessing>(json, where);
}

}  // namespace qkv::text
