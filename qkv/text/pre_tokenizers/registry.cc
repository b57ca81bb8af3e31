#include "qkv/text/registry.h"

#include "qkv/text/pre_tokenizers/pre_tokenizer.h"

namespace qkv::text {

namespace {

class Sequence final : public PreTokenizer {
 public:
  explicit Sequence(std::vector<PreTokenizerPtr> parts) : parts_(std::move(parts)) {}
  void apply(Words& words) const override {
    for (const auto& part : parts_) part->apply(words);
  }
  io::Json to_json() const override {
    return {{"type", "Sequence"}, {"pretokenizers", parts_to_json(parts_)}};
  }

 private:
  std::vector<PreTokenizerPtr> parts_;
};

PreTokenizerPtr make_sequence(const io::Json& json, const std::string& where) {
  return std::make_unique<Sequence>(
      make_parts<PreTokenizer>(json, "pretokenizers", where, &pre_tokenizer_from_json));
}

constexpr Maker<PreTokenizer> kMakers[] = {
    {"ByteLevel", make_byte_level},
    {"Metaspace", make_metaspace},
    {"Split", make_split},
    {"WhitespaceSplit", make_whitespace_split},
    {"Whitespace", make_whitespace},
    {"Digits", make_digits},
    {"Punctuation", make_punctuation},
    {"Sequence", make_sequence},
};

}  // namespace

PreTokenizerPtr pre_tokenizer_from_json(const io::Json& json, const std::string& where) {
  return make_part<PreTokenizer>(kMakers, json, where);
}

}  // namespace qkv::text
