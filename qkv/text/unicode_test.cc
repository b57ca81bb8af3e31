#include "qkv/text/unicode.h"

#include <gtest/gtest.h>

#include <random>

#include "qkv/base/error.h"
#include "qkv/text/utf8.h"

namespace qkv::unicode {
namespace {

std::string lower(std::string_view text) {
  std::string out;
  utf8::for_each(text, [&](char32_t c, size_t, size_t) { append_lower(out, c); });
  return out;
}

TEST(Unicode, NormalFormsAreThoseOfAnnex15) {
  EXPECT_EQ(normalized("e\u0301", NormalForm::kNfc), "\u00E9");
  EXPECT_EQ(normalized("\u00E9", NormalForm::kNfd), "e\u0301");
  EXPECT_EQ(normalized("\uFB01\u00B2", NormalForm::kNfc), "\uFB01\u00B2");
  EXPECT_EQ(normalized("\uFB01\u00B2", NormalForm::kNfkc), "fi2");
  EXPECT_EQ(normalized("\uFF76\uFF9E", NormalForm::kNfkc), "\u30AC") << "a letter that becomes a mark";
  EXPECT_EQ(normalized("\u1112\u1161\u11AB", NormalForm::kNfc), "\uD55C");
  EXPECT_EQ(normalized("\uD55C", NormalForm::kNfkd), "\u1112\u1161\u11AB");
  EXPECT_EQ(normalized(std::string("a\0b", 3), NormalForm::kNfc), std::string("a\0b", 3));
}

// The property that lets the tokenizer normalise piece by piece.
TEST(Unicode, NormalisingMayBeCutAtEveryBoundary) {
  const char32_t some[] = {U'a',    U'e',    0x301,   0x323,  0x327,   0xE9,   0x1100, 0x1161,
                           0x11A8,  0xAC00,  0xFF76,  0xFF9E, 0x3099,  0x30AB, 0x9C7,  0x9BE,
                           0x9D7,   0xFB01,  0xFDFA,  0x1E9B, 0x212B,  0x2126, 0x344,  0xF73,
                           0x110B9, 0x110BA, 0x1D15E, 0x4F60, 0x1F600, 0xFFA1, 0xFFC2};
  std::mt19937 random(1);
  for (const NormalForm form : {NormalForm::kNfc, NormalForm::kNfd, NormalForm::kNfkc, NormalForm::kNfkd}) {
    for (int round = 0; round < 3000; ++round) {
      std::string whole, pieces, piece;
      for (int i = 0; i < 8; ++i) {
        const char32_t c = some[random() % std::size(some)];
        if (is_boundary(c, form)) {
          pieces += normalized(piece, form);
          piece.clear();
        }
        utf8::append(piece, c);
        utf8::append(whole, c);
      }
      pieces += normalized(piece, form);
      ASSERT_EQ(pieces, normalized(whole, form)) << "form " << static_cast<int>(form) << " of " << whole;
    }
  }
}

TEST(Unicode, TextThatIsNotUtf8IsRefused) { EXPECT_THROW(normalized("\xFF", NormalForm::kNfc), Error); }

TEST(Unicode, LowerCaseIsThatOfEachCharacter) {
  EXPECT_EQ(lower("\u00C4PFEL \u0416 \u03A3"), "\u00E4pfel \u0436 \u03C3");
  EXPECT_EQ(lower("\u0130"), "i\u0307");
  EXPECT_EQ(lower("\u1E9E\u00DF"), "\u00DF\u00DF");
}

TEST(Unicode, ClassesKnowTheirOddMembers) {
  EXPECT_TRUE(is_whitespace(0x85));
  EXPECT_TRUE(is_whitespace(0x3000));
  EXPECT_FALSE(is_whitespace(0x200B)) << "the zero width space is none";
  EXPECT_FALSE(is_whitespace(0x180E));
  EXPECT_TRUE(is_numeric(0xBD)) << "one half";
  EXPECT_TRUE(is_numeric(0x2167)) << "Roman eight";
  EXPECT_FALSE(is_numeric(0x4E00)) << "the character for one is a letter";
  EXPECT_TRUE(is_punctuation('$'));
  EXPECT_FALSE(is_punctuation(0x20AC)) << "the Euro sign is a symbol";
  EXPECT_TRUE(is_punctuation(0x3002));
  EXPECT_TRUE(is_word('_'));
  EXPECT_TRUE(is_word(0x301));
  EXPECT_TRUE(is_word(0x24B6));
  EXPECT_FALSE(is_word('-'));
}

}  // namespace
}  // namespace qkv::unicode
