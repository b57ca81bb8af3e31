#include "qkv/text/normalizers/normalizer.h"

#include <gtest/gtest.h>

#include "qkv/base/error.h"

namespace qkv::text {
namespace {

TracedText run(const std::string& json, const std::string& text) {
  const auto part = normalizer_from_json(io::parse_json(json, "test"), "test");
  EXPECT_EQ(normalizer_from_json(part->to_json(), "again")->to_json(), part->to_json());
  return part->apply(TracedText::of(text, 0, static_cast<int64_t>(text.size()), true));
}

std::string text_of(const std::string& json, const std::string& text) { return run(json, text).text; }

TEST(Normalizer, EachDoesWhatItsNameSays) {
  EXPECT_EQ(text_of(R"({"type":"NFC"})", "cafe\u0301 \u4F60"), "caf\u00E9 \u4F60");
  EXPECT_EQ(text_of(R"({"type":"NFKD"})", "\uFB01"), "fi");
  EXPECT_EQ(text_of(R"({"type":"Lowercase"})", "\u00C9T\u00C9"), "\u00E9t\u00E9");
  EXPECT_EQ(text_of(R"({"type":"Strip","strip_left":true,"strip_right":true})", "\u3000 a b \n"), "a b");
  EXPECT_EQ(text_of(R"({"type":"Strip","strip_left":true,"strip_right":false})", " a "), "a ");
  EXPECT_EQ(text_of(R"({"type":"Strip","strip_left":true,"strip_right":true})", " \t"), "");
  EXPECT_EQ(text_of(R"({"type":"Replace","pattern":{"String":"ab"},"content":"c"})", "ababb"), "ccb");
  EXPECT_EQ(text_of(R"({"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "})", "a   b c"), "a b c");
  EXPECT_EQ(text_of(R"({"type":"Prepend","prepend":"_"})", "a"), "_a");
  EXPECT_EQ(text_of(R"({"type":"Prepend","prepend":"_"})", ""), "");
  EXPECT_EQ(text_of(R"({"type":"Sequence","normalizers":[]})", "A"), "A");
  EXPECT_EQ(
      text_of(R"({"type":"Sequence","normalizers":[{"type":"Lowercase"},{"type":"Prepend","prepend":"x"}]})",
              "A"),
      "xa");
}

TEST(Normalizer, RemembersWhereBytesCameFrom) {
  const TracedText t =
      run(R"({"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Prepend","prepend":" "},
                               {"type":"Replace","pattern":{"String":"x"},"content":"yz"}]})",
          "e\u0301x!");
  ASSERT_EQ(t.text, " \u00E9yz!");
  const std::vector<Span> expected = {{0, 0}, {0, 3}, {0, 3}, {3, 4}, {3, 4}, {4, 5}};
  EXPECT_EQ(t.from, expected);
}

// Twenty rules that each double a letter make a million of one.
TEST(Normalizer, TextThatGrowsWithoutEndIsAnError) {
  std::string json = R"({"type":"Sequence","normalizers":[)";
  for (int i = 0; i < 20; ++i)
    json += std::string(i ? "," : "") + R"({"type":"Replace","pattern":{"String":"a"},"content":"aa"})";
  try {
    run(json + "]}", "a");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_NE(std::string(error.what()).find("grows past 4128 bytes"), std::string::npos) << error.what();
  }
}

TEST(Normalizer, NestingIsBounded) {
  std::string json = R"({"type":"NFC"})";
  for (int i = 0; i < 200; ++i) json = R"({"type":"Sequence","normalizers":[)" + json + "]}";
  EXPECT_THROW(run(json, "a"), Error);
}

TEST(Normalizer, RefusesWhatItDoesNotKnowByName) {
  EXPECT_THROW(run(R"({"type":"Rot13"})", "a"), Error);
  EXPECT_THROW(run(R"({"no":"type"})", "a"), Error);
  EXPECT_THROW(run(R"([])", "a"), Error);
  EXPECT_THROW(run(R"({"type":"Prepend","prepend":3})", "a"), Error);
  EXPECT_THROW(run(R"({"type":"Strip"})", "a"), Error);
}

}  // namespace
}  // namespace qkv::text
