#include "qkv/text/pre_tokenizers/pre_tokenizer.h"

#include <gtest/gtest.h>

#include "qkv/base/error.h"

namespace qkv::text {
namespace {

using Strings = std::vector<std::string>;

Strings words_of(const std::string& json, const std::string& text) {
  const auto part = pre_tokenizer_from_json(io::parse_json(json, "test"), "test");
  Words words{TracedText::of(text, 0, static_cast<int64_t>(text.size()), true), {}};
  words.spans.push_back({0, static_cast<uint32_t>(text.size())});
  part->apply(words);
  Strings out;
  for (const Span& s : words.spans) out.emplace_back(words.word(s));
  // What is written back has to read the same.
  EXPECT_EQ(pre_tokenizer_from_json(part->to_json(), "again")->to_json(), part->to_json());
  return out;
}

Strings split(const std::string& behavior, bool invert = false) {
  return words_of(R"({"type":"Split","pattern":{"String":"-"},"behavior":")" + behavior + R"(","invert":)" +
                      (invert ? "true}" : "false}"),
                  "the-final--countdown-");
}

// The example of the reference implementation's documentation, with an end that matches.
TEST(Split, BehaviorsSayWhatBecomesOfTheMatches) {
  EXPECT_EQ(split("Removed"), (Strings{"the", "final", "countdown"}));
  EXPECT_EQ(split("Isolated"), (Strings{"the", "-", "final", "-", "-", "countdown", "-"}));
  EXPECT_EQ(split("Contiguous"), (Strings{"the", "-", "final", "--", "countdown", "-"}));
  EXPECT_EQ(split("MergedWithPrevious"), (Strings{"the-", "final-", "-", "countdown-"}));
  EXPECT_EQ(split("MergedWithNext"), (Strings{"the", "-final", "-", "-countdown", "-"}));
  EXPECT_EQ(split("Removed", true), (Strings{"-", "-", "-", "-"}));
}

TEST(Split, AnEmptyPatternSplitsNothingOrEverywhere) {
  EXPECT_EQ(words_of(R"({"type":"Split","pattern":{"String":""},"behavior":"Isolated"})", "abc"),
            (Strings{"abc"}));
  EXPECT_EQ(words_of(R"({"type":"Split","pattern":{"Regex":""},"behavior":"Isolated"})", "abc"),
            (Strings{"a", "b", "c"}));
}

TEST(ByteLevel, CutsGpt2sWordsAndSpellsTheirBytes) {
  EXPECT_EQ(
      words_of(R"({"type":"ByteLevel","add_prefix_space":false})", "I'll go  \u00E0 2pm!\n"),
      (Strings{"I", "'ll", "\u0120go", "\u0120", "\u0120\u00C3\u0142", "\u01202", "pm", "!", "\u010A"}));
  EXPECT_EQ(words_of(R"({"type":"ByteLevel","add_prefix_space":true})", "a b"),
            (Strings{"\u0120a", "\u0120b"}));
  EXPECT_EQ(words_of(R"({"type":"ByteLevel","add_prefix_space":true,"use_regex":false})", " a b"),
            (Strings{"\u0120a\u0120b"}));
}

TEST(Metaspace, MarksSpacesAndCutsBeforeEachMark) {
  const auto metaspace = [](const std::string& rest, const std::string& text) {
    return words_of(R"({"type":"Metaspace","replacement":"▁")" + rest + "}", text);
  };
  EXPECT_EQ(metaspace("", "Hey  friend"), (Strings{"▁Hey", "▁", "▁friend"}));
  EXPECT_EQ(metaspace("", " Hey"), (Strings{"▁Hey"}));
  EXPECT_EQ(metaspace(R"(,"prepend_scheme":"never")", "a b"), (Strings{"a", "▁b"}));
  EXPECT_EQ(metaspace(R"(,"add_prefix_space":false)", "a b"), (Strings{"a", "▁b"}));
  EXPECT_EQ(metaspace(R"(,"split":false)", "a b"), (Strings{"▁a▁b"}));
}

TEST(Metaspace, FirstMarksOnlyTheWordThatBeginsTheText) {
  const std::string both = R"({"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},
      {"type":"Metaspace","replacement":"▁","prepend_scheme":"first"}]})";
  EXPECT_EQ(words_of(both, "a b"), (Strings{"▁a", "b"}));
  EXPECT_EQ(words_of(both, " a b"), (Strings{"a", "b"}));
}

TEST(SmallSplitters, FollowTheirClasses) {
  EXPECT_EQ(words_of(R"({"type":"WhitespaceSplit"})", " a\u3000b, c "), (Strings{"a", "b,", "c"}));
  EXPECT_EQ(words_of(R"({"type":"Whitespace"})", "how's it? \u00E7a!!"),
            (Strings{"how", "'", "s", "it", "?", "\u00E7a", "!!"}));
  EXPECT_EQ(words_of(R"({"type":"Digits","individual_digits":true})", "a12b"), (Strings{"a", "1", "2", "b"}));
  EXPECT_EQ(words_of(R"({"type":"Digits","individual_digits":false})", "a12b"), (Strings{"a", "12", "b"}));
  EXPECT_EQ(words_of(R"({"type":"Punctuation"})", "a!?b"), (Strings{"a", "!", "?", "b"}));
  EXPECT_EQ(words_of(R"({"type":"Punctuation","behavior":"Contiguous"})", "a!?b"), (Strings{"a", "!?", "b"}));
}

TEST(PreTokenizer, RefusesWhatItDoesNotKnowByName) {
  try {
    words_of(R"({"type":"Sequence","pretokenizers":[{"type":"Telepathy"}]})", "a");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_NE(std::string(error.what()).find("unknown type \"Telepathy\"; qkv knows ByteLevel"),
              std::string::npos)
        << error.what();
  }
  EXPECT_THROW(words_of(R"({"type":"Split","pattern":{"Glob":"*"},"behavior":"Isolated"})", "a"), Error);
  EXPECT_THROW(words_of(R"({"type":"Split","pattern":{"String":"-"},"behavior":"Exploded"})", "a"), Error);
  EXPECT_THROW(words_of(R"({"type":"Metaspace","replacement":"ab"})", "a"), Error);
  EXPECT_THROW(words_of(R"({"type":"Digits","individual_digits":1})", "a"), Error);
}

}  // namespace
}  // namespace qkv::text
