#include "qkv/scores/tokenize.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "qkv/base/error.h"
#include "qkv/scores/python_text.h"

namespace qkv::scores {
namespace {

std::string tercom(std::string_view line, const TercomOptions& options) {
  std::string out;
  const std::string text = tokenize_tercom(line, options);
  for (const std::string_view w : split(text)) out += (out.empty() ? "" : " ") + std::string(w);
  return out;
}

TEST(Tokenize13a, PartsPunctuationAndKeepsNumbers) {
  const auto tok = [](std::string_view line) { return tokenize(line, BleuTokenizer::k13a); };
  EXPECT_EQ(tok("It wasn't surprising."), "It wasn't surprising .");
  EXPECT_EQ(tok("1,000.5 or 3-4, well-known."), "1,000.5 or 3 - 4 , well-known .");
  EXPECT_EQ(tok("(a/b) [c] {d} $5 50% e@f"), "( a / b ) [ c ] { d } $ 5 50 % e @ f");
  EXPECT_EQ(tok("&quot;Tom &amp; Jerry&quot; &lt;b&gt;"), "\" Tom & Jerry \" < b >");
  EXPECT_EQ(tok("a<skipped>b"), "ab");
  EXPECT_EQ(tok("wait... what?!"), "wait . . . what ? !");
  EXPECT_EQ(tok("„Größe“ – ja.Nein"), "„Größe“ – ja . Nein");  // what is not ASCII stays where it is
  EXPECT_EQ(tok("é.é,é"), "é . é , é");
  EXPECT_EQ(tok(""), "");
}

// (\P{N})(\p{P}) takes both characters, so of two marks in a row the second is parted by the next rule alone.
TEST(TokenizeIntl, PartsUnicodePunctuationAndSymbols) {
  const auto tok = [](std::string_view line) { return tokenize(line, BleuTokenizer::kIntl); };
  EXPECT_EQ(tok("It wasn't surprising."), "It wasn ' t surprising .");
  EXPECT_EQ(tok("„Größe“ – ja"), "„ Größe “ – ja");
  EXPECT_EQ(tok("1,000.5 € 3+4"), "1,000.5 € 3 + 4");
  EXPECT_EQ(tok("in 2017."), "in 2017.");  // as mteval-v14: no character follows the full stop
  EXPECT_EQ(tok("in 2017. Then"), "in 2017 . Then");
  EXPECT_EQ(tok("你好。再见"), "你好 。 再见");
  EXPECT_EQ(tok("&quot;"), "& quot ;");
}

TEST(TokenizeChar, MakesEveryCharacterAToken) {
  EXPECT_EQ(tokenize("añ b", BleuTokenizer::kChar), "a ñ   b");
  const std::string spaced = tokenize("añ b", BleuTokenizer::kChar);
  EXPECT_EQ(split(spaced).size(), 3u);
}

TEST(TokenizeZh, MakesChineseCharactersTokens) {
  const auto tok = [](std::string_view line) { return tokenize(line, BleuTokenizer::kZh); };
  EXPECT_EQ(tok("我爱Python 3.5,真的。"), "我 爱 Python 3.5 , 真 的 。");
  EXPECT_EQ(tok("全角,\uFF21\uFF22"), "全 角 , \uFF21 \uFF22");
  // The range that Python reads as U+2001 .. U+2A6D: dashes and quotes are parted, extension B is not.
  EXPECT_EQ(tok("a—b“c”"), "a — b “ c ”");
  EXPECT_EQ(tok("\U00020000\U00020001"), "\U00020000\U00020001");
}

// sacrebleu test/test_tokenizer_ter.py; its doubled spaces are not compared, for TER splits there.
TEST(TokenizeTercom, IsSacrebleus) {
  EXPECT_EQ(tercom("a b c d", {}), "a b c d");
  EXPECT_EQ(tercom("", {}), "");
  EXPECT_EQ(tercom("A B C D.", {}), "a b c d.");
  EXPECT_EQ(tercom("a b c d.", {.no_punct = true}), "a b c d");
  EXPECT_EQ(tercom("A ; B ) C : D.", {.no_punct = true}), "a b c d");
  EXPECT_EQ(tercom("a b (c) d.", {.normalized = true}), "a b ( c ) d .");
  EXPECT_EQ(tercom("Jim's car.", {.normalized = true}), "jim 's car .");
  EXPECT_EQ(tercom("4.2", {.normalized = true}), "4.2");
  EXPECT_EQ(tercom("美众院公布对特", {.normalized = true, .asian_support = true}), "美 众 院 公 布 对 特");
  EXPECT_EQ(tercom("りの拳銃を持", {.normalized = true, .asian_support = true}), "りの 拳 銃 を 持");
}

TEST(TokenizeTercom, DropsAsianPunctuationWhereAsked) {
  EXPECT_EQ(tercom("あ、い。「う」(え)", {.no_punct = true, .asian_support = true}), "あいうえ");
  EXPECT_EQ(tercom("the dogs' and Jim's", {.normalized = true}), "the dogs' and jim 's");
}

TEST(BleuTokenizerNames, RoundTripAndTeach) {
  for (const std::string& n : bleu_tokenizer_names()) EXPECT_EQ(name(parse_bleu_tokenizer(n)), n);
  try {
    parse_bleu_tokenizer("13b");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kValue);
    EXPECT_STREQ(e.what(), "bleu: unknown tokenisation \"13b\"; there is 13a, none, intl, char, zh");
  }
  try {
    parse_bleu_tokenizer("spm");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kValue);
    EXPECT_NE(std::string(e.what()).find("there is 13a, none"), std::string::npos);
  }
}

// A million characters of the worst kind for a backtracking pattern take a moment.
TEST(Tokenize, IsLinearInTheLine) {
  std::string line;
  for (int i = 0; i < 250000; ++i) line += ".,-\"";
  for (const std::string& n : bleu_tokenizer_names())
    EXPECT_FALSE(tokenize(line, parse_bleu_tokenizer(n)).empty());
  EXPECT_FALSE(tokenize_tercom(line, {.normalized = true, .asian_support = true}).empty());
}

TEST(PythonText, SplitsAtUnicodeWhiteSpace) {
  EXPECT_EQ(split(" a\u00a0b\u3000c\u2003\td\x1c"
                  "e\u200bf "),
            (std::vector<std::string_view>{"a", "b", "c", "d", "e\u200bf"}));
  EXPECT_TRUE(split(" \t\u3000").empty());
  EXPECT_EQ(rstrip("a \u00a0\r\n\u3000"), "a");
  EXPECT_EQ(strip("\u2028 a b\u0085"), "a b");
  EXPECT_EQ(rstrip("a\xa0"), "a\xa0");  // half a character is not white space
  EXPECT_EQ(rstrip(""), "");
}

TEST(PythonText, LowersAsPython) {
  EXPECT_EQ(lower("ÄÖÜ ẞ ABC"), "äöü ß abc");
  EXPECT_EQ(lower("İstanbul"), "i\u0307stanbul");
  EXPECT_EQ(lower("ΟΔΥΣΣΕΥΣ Σ ΑΣ. ΑΣ'Β"), "οδυσσευς σ ας. ασ'β");
  EXPECT_EQ(lower("ПРИВЕТ"), "привет");
}

}  // namespace
}  // namespace qkv::scores
