#include "qkv/text/utf8.h"

#include <gtest/gtest.h>

#include <vector>

namespace qkv::utf8 {
namespace {

TEST(Utf8, EveryCharacterWrittenIsReadBack) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c == 0xD800) c = 0xE000;
    std::string text;
    append(text, c);
    const Step s = step(text, 0);
    ASSERT_TRUE(s.valid) << static_cast<uint32_t>(c);
    ASSERT_EQ(static_cast<uint32_t>(s.value), static_cast<uint32_t>(c));
    ASSERT_EQ(s.length, static_cast<int32_t>(text.size()));
  }
}

TEST(Utf8, FindsTheFirstBadByteWhereverItStands) {
  for (size_t at = 0; at < 40; ++at) {
    std::string text(40, 'a');
    text[at] = '\xFF';
    EXPECT_EQ(first_invalid(text), static_cast<int64_t>(at));
  }
  EXPECT_FALSE(first_invalid(""));
  EXPECT_FALSE(first_invalid("caf\xC3\xA9 \xF0\x9F\x98\x80"));
}

// Unicode 15, table 3-8: what each malformed beginning is replaced by.
TEST(Utf8, RepairsOneReplacementForEachMaximalSubpart) {
  const std::string r = "\uFFFD";
  EXPECT_EQ(repaired("a\xF1\x80\x80\xE1\x80\xC2"
                     "b\x80"
                     "c\x80\xBF"
                     "d"),
            "a" + r + r + r + "b" + r + "c" + r + r + "d");
  EXPECT_EQ(repaired("\xC0\xAF"), r + r) << "overlong";
  EXPECT_EQ(repaired("\xED\xA0\x80"), r + r + r) << "surrogate";
  EXPECT_EQ(repaired("\xF4\x90\x80\x80"), r + r + r + r) << "past U+10FFFF";
  EXPECT_EQ(repaired("\xE4\xBD"), r) << "cut off";
  EXPECT_EQ(repaired("\uFFFD is itself"), "\uFFFD is itself");
}

TEST(Utf8, NeverReadsPastTheEnd) {
  const std::string whole = "\xF0\x9F\x98\x80";
  for (size_t n = 1; n < 4; ++n) {
    const std::vector<char> exact(whole.begin(),
                                  whole.begin() + static_cast<ptrdiff_t>(n));  // seen by the sanitizer
    const Step s = step({exact.data(), n}, 0);
    EXPECT_FALSE(s.valid);
    EXPECT_EQ(s.length, static_cast<int32_t>(n));
  }
}

TEST(Utf8, CountsCharactersNotBytes) { EXPECT_EQ(length("na\u00EFve \u4F60\u597D"), 8); }

}  // namespace
}  // namespace qkv::utf8
