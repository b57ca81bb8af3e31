// ByteLevel: GPT-2's words, spelled in its alphabet of bytes (Radford et al., 2019, section 2.2).

#include "qkv/text/byte_alphabet.h"
#include "qkv/text/pre_tokenizers/pre_tokenizer.h"
#include "qkv/text/pre_tokenizers/rewrite.h"
#include "qkv/text/regex.h"

namespace qkv::text {

namespace {

// openai/gpt-2, encoder.py: contractions, then letters, digits and the rest, each with at most one space
// before. The look-ahead leaves the last of several spaces to the word that follows.
const Regex& gpt2_words() {
  static const Regex regex(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
                           "ByteLevel");
  return regex;
}

class ByteLevel final : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, bool use_regex, bool trim_offsets)
      : add_prefix_space_(add_prefix_space), use_regex_(use_regex), trim_offsets_(trim_offsets) {}

  void apply(Words& words) const override {
    if (add_prefix_space_) {
      rewrite_words(words, [](std::string_view word, size_t begin, TextEdit& edit) {
        if (!word.starts_with(' ')) edit.put(" ", begin, begin);
        edit.keep(begin, begin + word.size());
      });
    }
    if (use_regex_) {
      const Regex& regex = gpt2_words();
      split_words(
          words, [&](std::string_view w, std::vector<Span>& m) { regex.find_all(w, m); },
          SplitBehavior::kIsolated);
    }
    rewrite_words(words, [](std::string_view word, size_t begin, TextEdit& edit) {
      for (size_t i = 0; i < word.size(); ++i)
        edit.put(byte_character(static_cast<unsigned char>(word[i])), begin + i, begin + i + 1);
    });
  }

  io::Json to_json() const override {
    return {{"type", "ByteLevel"},
            {"add_prefix_space", add_prefix_space_},
            {"trim_offsets", trim_offsets_},
            {"use_regex", use_regex_}};
  }

 private:
  bool add_prefix_space_, use_regex_;
  bool trim_offsets_;  // only kept: our offsets cover every byte
};

}  // namespace

PreTokenizerPtr make_byte_level(const io::Json& json, const std::string& where) {
  return std::make_unique<ByteLevel>(io::get_bool_or(json, "add_prefix_space", true, where),
                                     io::get_bool_or(json, "use_regex", true, where),
                                     io::get_bool_or(json, "trim_offsets", true, where));
}

}  // namespace qkv::text
