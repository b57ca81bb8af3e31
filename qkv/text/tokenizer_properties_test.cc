// What holds for every text, tried on texts that RapidCheck makes up and, where one fails, makes shorter.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "qkv/text/bpe_trainer.h"
#include "qkv/text/tokenizer.h"
#include "qkv/text/unicode.h"
#include "qkv/text/utf8.h"

namespace qkv {
namespace {

// Characters of one to four bytes, and pieces of text that something here treats in its own way: control
// tokens, blanks, the byte alphabet's and SentencePiece's mark for a blank, joiners and combining marks, ends
// of lines.
rc::Gen<std::string> some_text() {
  using rc::gen::inRange;
  const auto character =
      rc::gen::map(rc::gen::oneOf(inRange<uint32_t>(0, 0x80), inRange<uint32_t>(0x80, 0x800),
                                  inRange<uint32_t>(0x800, 0xD800), inRange<uint32_t>(0xE000, 0x10000),
                                  inRange<uint32_t>(0x10000, 0x110000)),
                   [](uint32_t c) {
                     std::string text;
                     utf8::append(text, c);
                     return text;
                   });
  const auto odd = rc::gen::elementOf(std::vector<std::string>{"</s>",
                                                               "<pad>",
                                                               "<unk>",
                                                               " ",
                                                               "  ",
                                                               "\n",
                                                               "\r\n",
                                                               "\t",
                                                               "\u00A0",
                                                               "\u3000",
                                                               "\u0120",
                                                               "\u2581",
                                                               "\uFEFF",
                                                               "\u200B",
                                                               "'s",
                                                               "e\u0301",
                                                               "\u1112\u1161\u11AB",
                                                               "\uFB01",
                                                               "\u2126",
                                                               "\u0085",
                                                               "\u2028",
                                                               "<0x0A>",
                                                               "\x7F",
                                                               "\U0001F468\u200D\U0001F469",
                                                               "low",
                                                               "est",
                                                               "LOW",
                                                               "123",
                                                               "\u0130",
                                                               "\uFFFD"});
  const auto parts = rc::gen::container<std::vector<std::string>>(rc::gen::oneOf(character, odd));
  return rc::gen::map(parts, [](const std::vector<std::string>& all) {
    std::string text;
    for (const std::string& part : all) text += part;
    return text;
  });
}

// The dictionary of Sennrich et al. (2016), section 3.2.
Tokenizer trained(const BpeTrainerOptions& options) {
  std::vector<std::string> lines;
  for (const auto& [word, count] : {std::pair{"low", 5}, {"lower", 2}, {"newest", 6}, {"widest", 3}})
    lines.insert(lines.end(), static_cast<size_t>(count), word);
  return train_bpe(lines, options);
}

int64_t n_special(const Tokenizer& t, const std::vector<int32_t>& ids) {
  return std::count_if(ids.begin(), ids.end(), [&](int32_t id) { return t.is_special(id); });
}

RC_GTEST_PROP(ByteLevelTokenizer, AnyTextComesBackFromItsIds, ()) {
  static const Tokenizer plain = trained({.vocab_size = 268, .prefix_space = false}),
                         prefixed = trained({.vocab_size = 268, .prefix_space = true});
  const Tokenizer& t = *rc::gen::arbitrary<bool>() ? plain : prefixed;
  const std::string text = *some_text();
  const std::vector<int32_t> ids = t.encode(text);
  RC_ASSERT(t.decode(ids) == text);
  RC_ASSERT(n_special(t, ids) == 1);  // the end, and nothing that the text spells
  RC_ASSERT(t.encode(text, false) == std::vector<int32_t>(ids.begin(), ids.end() - 1));
}

RC_GTEST_PROP(ByteLevelTokenizer, NormalisedTextComesBackNormalised, ()) {
  static const Tokenizer nfkc = trained({.vocab_size = 268, .form = UnicodeForm::kNfkc});
  const std::string text = *some_text(), normal = unicode::normalized(text, unicode::NormalForm::kNfkc);
  RC_ASSERT(nfkc.decode(nfkc.encode(text)) == normal);
  RC_ASSERT(nfkc.encode(normal) == nfkc.encode(text));
}

// Tokens lie side by side, cover the text and hold the bytes that they came from.
RC_GTEST_PROP(ByteLevelTokenizer, OffsetsCutTheTextIntoItsTokens, ()) {
  static const Tokenizer t = trained({.vocab_size = 268, .prefix_space = false});
  const std::string text = *some_text();
  const std::vector<int32_t> ids = t.encode(text);
  const std::vector<Token> tokens = t.encode_with_offsets(text);
  RC_ASSERT(tokens.size() == ids.size());
  int64_t at = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    RC_ASSERT(tokens[i].id == ids[i]);
    RC_ASSERT(tokens[i].begin == at);
    at = tokens[i].end;
    if (i + 1 < tokens.size())
      RC_ASSERT(t.piece_text(ids[i]) ==
                text.substr(static_cast<size_t>(tokens[i].begin), static_cast<size_t>(at - tokens[i].begin)));
  }
  RC_ASSERT(at == static_cast<int64_t>(text.size()));
}

// The tokenizer of models/en-de, which real text trained and which normalises to NFC.
RC_GTEST_PROP(ShippedTokenizer, AnyTextComesBackFromItsIds, ()) {
  static const Tokenizer t = Tokenizer::load(QKV_SOURCE_DIR "/models/en-de/tokenizer.json");
  const std::string text = *some_text();
  const std::vector<int32_t> ids = t.encode(text);
  RC_ASSERT(t.decode(ids) == unicode::normalized(text, unicode::NormalForm::kNfc));
  RC_ASSERT(n_special(t, ids) == 1);
}

RC_GTEST_PROP(Utf8, RepairingAnyBytesGivesTextAndLeavesTextAlone, ()) {
  const auto bytes = *rc::gen::container<std::string>(rc::gen::arbitrary<char>());
  const std::string text = utf8::repaired(bytes);
  RC_ASSERT(!utf8::first_invalid(text));
  RC_ASSERT(utf8::repaired(text) == text);
  RC_ASSERT((text == bytes) == !utf8::first_invalid(bytes).has_value());
}

}  // namespace
}  // namespace qkv
