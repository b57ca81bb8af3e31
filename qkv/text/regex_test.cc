#include "qkv/text/regex.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "qkv/base/error.h"

namespace qkv::text {
namespace {

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  const Regex regex(pattern, "test");
  std::vector<Span> spans;
  regex.find_all(text, spans);
  std::vector<std::string> out;
  for (const Span& s : spans) out.push_back(text.substr(s.begin, s.end - s.begin));
  return out;
}

using Strings = std::vector<std::string>;

ErrorCode code_of(const std::string& pattern, const std::string& text = "a") {
  try {
    matches(pattern, text);
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

TEST(Regex, FindsMatchesLeftToRight) {
  EXPECT_EQ(matches(R"(\p{L}+|\p{N})", "ab12 \u00E9c"), (Strings{"ab", "1", "2", "\u00E9c"}));
  EXPECT_EQ(matches(R"(\s+(?!\S)|\s+)", "a   b"), (Strings{"  ", " "}));
}

TEST(Regex, ReadsOnigurumaWhereItDiffersFromPcre) {
  EXPECT_EQ(matches(R"(\s)", "\u180E\u0085\u3000"), (Strings{"\u0085", "\u3000"}))
      << "white space is White_Space";
  EXPECT_EQ(matches(R"([^\s]+)", "a\u180E b"), (Strings{"a\u180E", "b"}));
  EXPECT_EQ(matches(R"(\w+)", "n\u0303o_1-\u203Fx"), (Strings{"n\u0303o_1", "\u203Fx"}))
      << "marks and ties are word";
  EXPECT_EQ(matches(R"(\h+)", "xBAD f00d"), (Strings{"BAD", "f00d"})) << "hex digits";
  EXPECT_EQ(matches(R"(^b$)", "a\nb\nc"), (Strings{"b"})) << "lines";
  EXPECT_EQ(matches(R"([]a]+)", "]a["), (Strings{"]a"}));
  EXPECT_EQ(matches(R"(\u4F60)", "\u4F60\u597D"), (Strings{"\u4F60"}));
  EXPECT_EQ(matches(R"([[:alpha:]\-\[]+)", "a-[1"), (Strings{"a-["}));
}

TEST(Regex, AnEmptyMatchMovesOn) {
  EXPECT_EQ(matches("", "a\u00E9"), (Strings{"", ""}));
  EXPECT_EQ(matches("x*", "axb"), (Strings{"", "x", ""}));
}

TEST(Regex, MatchesThatBeginFarIntoTheTextAreFound) {
  for (const size_t n : {1023u, 1024u, 1025u, 5000u}) {
    std::string text;
    for (size_t i = 0; i < n; ++i) text += "\u00E9";
    EXPECT_EQ(matches("b+", text + "bb"), Strings{"bb"}) << n;
  }
}

TEST(Regex, WhatIsNoneIsRefusedWithItsPlace) {
  EXPECT_EQ(code_of("a(b"), ErrorCode::kFormat);
  EXPECT_EQ(code_of("["), ErrorCode::kFormat);
  EXPECT_EQ(code_of("\\"), ErrorCode::kFormat);
  EXPECT_EQ(code_of(std::string(70000, 'a')), ErrorCode::kFormat);
  EXPECT_EQ(code_of("((((a{0,60000}){0,60000}){0,60000}){0,60000})"), ErrorCode::kFormat);
  EXPECT_EQ(code_of(R"([a-z&&[^b]])"), ErrorCode::kUnsupported);
  EXPECT_EQ(code_of(R"([a[bc]])"), ErrorCode::kUnsupported);
  EXPECT_EQ(code_of(R"([\W])"), ErrorCode::kUnsupported);
  try {
    Regex("a(b", "some.json: Split");
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "some.json: Split: regular expression \"a(b\": missing closing parenthesis at byte 3");
  }
}

TEST(Regex, HostileExpressionsEndSoonInAnError) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(code_of("(a+)+$", std::string(60, 'a') + "b"), ErrorCode::kUnsupported) << "exponential";
  EXPECT_EQ(code_of("(?:a*)*b|a*a*a*a*c", std::string(100000, 'a')), ErrorCode::kUnsupported);
  EXPECT_EQ(code_of("(a|b)*(a|b)*(a|b)*[cd]", std::string(100000, 'a')), ErrorCode::kUnsupported);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15));
}

TEST(Regex, LongRunsTakeLinearTimeAndLittleStack) {
  const std::string gpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
  std::thread([&] {  // a thread of its own: the workspace is made there
    for (const char* one : {"a", " ", "1", "!", "\n", "\u4F60"}) {
      std::string text;
      for (int i = 0; i < 100000; ++i) text += one;
      EXPECT_EQ(matches(gpt2, text).size(), 1u);
    }
  })
      .join();
}

}  // namespace
}  // namespace qkv::text
