#include "qkv/text/registry.h"

#include <algorithm>

#include "qkv/text/post_processors/post_processor.h"

namespace qkv::text {

namespace {

class Sequence final : public PostProcessor {
 public:
  explicit Sequence(std::vector<PostProcessorPtr> parts) : parts_(std::move(parts)) {}
  void apply(std::vector<Token>& tokens, int64_t text_bytes) const override {
    for (const auto& part : parts_) part->apply(tokens, text_bytes);
  }
  int64_t max_id() const override {
    int64_t max = -1;
    for (const auto& part : parts_) max = std::max(max, part->max_id());
    return max;
  }
  io::Json to_json() const override { return {{"type", "Sequence"}, {"processors", parts_to_json(parts_)}}; }

 private:
  std::vector<PostProcessorPtr> parts_;
};

PostProcessorPtr make_sequence(const io::Json& json, const std::string& where) {
  return std::make_unique<Sequence>(
      make_parts<PostProcessor>(json, "processors", where, &post_processor_from_json));
}

// Trims white space from offsets in the reference implementation, adds no tokens. Our offsets cover every
// byte, so there is nothing to do but to keep it in the file.
class ByteLevel final : public PostProcessor {
 public:
  explicit ByteLevel(io::Json json) : json_(std::move(json)) {}
  void apply(std::vector<Token>&, int64_t) const override {}
  io::Json to_json() const override { return json_; }

 private:
  io::Json json_;
};

PostProcessorPtr make_byte_level(const io::Json& json, const std::string&) {
  return std::make_unique<ByteLevel>(json);
}

constexpr Maker<PostProcessor> kMakers[] = {
    {"TemplateProcessing", make_template_processing},
    {"ByteLevel", make_byte_level},
    {"Sequence", make_sequence},
};

}  // namespace

PostProcessorPtr post_processor_from_json(const io::Json& json, const std::string& where) {
  return make_part<PostProcessor>(kMakers, json, where);
}

}  // namespace qkv::text
