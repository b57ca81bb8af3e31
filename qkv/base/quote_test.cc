#include "qkv/base/quote.h"

#include <gtest/gtest.h>

namespace qkv {
namespace {

TEST(Quote, ShowsOrdinaryTextAsItIs) {
  EXPECT_EQ(quote("wte.weight"), "\"wte.weight\"");
  EXPECT_EQ(quote("größe 大小 😀"), "\"größe 大小 😀\"");
  EXPECT_EQ(quote(""), "\"\"");
}

TEST(Quote, EscapesWhatCouldMisleadAReader) {
  EXPECT_EQ(quote("a\"b\\c\nd\te\rf"), R"("a\"b\\c\nd\te\rf")");
  EXPECT_EQ(quote("\x1b[31mred"), R"("\u001b[31mred")");
  EXPECT_EQ(quote(std::string_view("a\0b", 3)), R"("a\u0000b")");
  EXPECT_EQ(quote("\xc2\x85 \xe2\x80\xae \xe2\x80\xa8 \xef\xbb\xbf"), R"("\u0085 \u202e \u2028 \ufeff")");
}

TEST(Quote, WritesBytesThatAreNotUtf8AsHex) {
  EXPECT_EQ(quote("\xff"), R"("\xff")");
  EXPECT_EQ(quote("\xc0\x80"), R"("\xc0\x80")");                  // overlong
  EXPECT_EQ(quote("\xed\xa0\x80"), R"("\xed\xa0\x80")");          // a surrogate
  EXPECT_EQ(quote("\xf4\x90\x80\x80"), R"("\xf4\x90\x80\x80")");  // past U+10FFFF
  EXPECT_EQ(quote("\xe5\xa4"), R"("\xe5\xa4")");                  // cut short
}

TEST(Quote, CutsLongText) {
  EXPECT_EQ(quote(std::string(200, 'x'), 5), "\"xxxxx...\"");
  EXPECT_EQ(quote("xxxxx", 5), "\"xxxxx\"");
  EXPECT_EQ(quote("大大大", 4), "\"大大...\"");  // never within a character
}

TEST(Escape, LeavesQuotesAlone) { EXPECT_EQ(escape("say \"a\\b\"\n"), "say \"a\\b\"\\n"); }

}  // namespace
}  // namespace qkv
