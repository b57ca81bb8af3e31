#include "qkv/explain/words.h"

#include <gtest/gtest.h>

namespace qkv::explain {
namespace {

using Strings = std::vector<std::string>;
using Ids = std::vector<int32_t>;

TEST(GroupWords, APieceThatBeginsWithABlankBeginsAWord) {
  const Words w = group_words(Strings{"Ein", " Mäd", "chen", " läuft", ".", ""});
  EXPECT_EQ(w.words, (Strings{"Ein", "Mädchen", "läuft."}));
  EXPECT_EQ(w.word_of, (Ids{0, 1, 1, 2, 2, -1}));
}

TEST(GroupWords, PunctuationStandsAloneWhereAsked) {
  const Words w = group_words(Strings{"Ein", " Mäd", "chen", ",", "das", " (", "läuft", ").", ""},
                              WordRule::kPunctuation);
  EXPECT_EQ(w.words, (Strings{"Ein", "Mädchen", ",", "das", "(", "läuft", ")."}));
  EXPECT_EQ(w.word_of, (Ids{0, 1, 1, 2, 3, 4, 5, 6, -1}));
}

TEST(GroupWords, WideCharactersStandAloneWhereAsked) {
  EXPECT_EQ(group_words(Strings{"女の子", "が", "走る", " ok"}, WordRule::kPunctuation).words,
            (Strings{"女の子", "が", "走る", "ok"}));
  EXPECT_EQ(group_words(Strings{"女の子", "が", "走る", " ok"}).words, (Strings{"女の子が走る", "ok"}));
}

TEST(GroupWords, BytesOfOneCharacterComeTogether) {
  const Words w = group_words(Strings{" caf", "\xC3", "\xA9", " \xE5", "\xA5\xB3"}, WordRule::kPunctuation);
  EXPECT_EQ(w.words, (Strings{"café", "女"}));
  EXPECT_EQ(w.word_of, (Ids{0, 0, 0, 1, 1}));
}

TEST(GroupWords, BlanksAloneAreNoWordAndEndOne) {
  const Words w = group_words(Strings{"a", " ", "b", "\u3000c ", "d"});
  EXPECT_EQ(w.words, (Strings{"a", "b", "c", "d"}));
  EXPECT_EQ(w.word_of, (Ids{0, -1, 1, 2, 3}));
  EXPECT_TRUE(group_words({}).words.empty());
}

// The last byte of à, Р and 砠 is A0, which is a blank as a character and not as a byte.
TEST(GroupWords, ALastByteIsNoCharacter) {
  EXPECT_EQ(group_words(Strings{"voilà", " НАТО Р", "砠", " b ", "c"}).words,
            (Strings{"voilà", "НАТО Р砠", "b", "c"}));
  const Words w = group_words(Strings{" voil", "\xC3", "\xA0", " b"});
  EXPECT_EQ(w.words, (Strings{"voilà", "b"}));
  EXPECT_EQ(w.word_of, (Ids{0, 0, 0, 1}));
}

TEST(Printable, NothingCanControlTheTerminal) {
  EXPECT_EQ(printable("a\x1b[31mb\n\x7f"), "a\uFFFD[31mb\uFFFD\uFFFD");
  EXPECT_EQ(printable("x\u202Ey\u200Bz"), "xyz");  // a right-to-left override, a space of no width
  EXPECT_EQ(printable("a\u009Bb"), "a\uFFFDb");    // the one-character form of ESC [
  EXPECT_EQ(printable("ok \xff\xC3"), "ok \uFFFD\uFFFD");
  EXPECT_EQ(printable("Mädchen 女 \x1b", true), "M?dchen ? ?");
}

TEST(DisplayWidth, CountsColumnsNotBytes) {
  EXPECT_EQ(display_width("abc"), 3);
  EXPECT_EQ(display_width("Mädchen"), 7);
  EXPECT_EQ(display_width("女の子"), 6);
  EXPECT_EQ(display_width("e\u0301"), 1);  // a combining accent takes no column
}

TEST(Fitted, CutsAtACharacterAndSaysSo) {
  EXPECT_EQ(fitted("playhouse", 9), "playhouse");
  EXPECT_EQ(fitted("playhouse", 5), "play…");
  EXPECT_EQ(fitted("女の子", 5), "女の…");
  EXPECT_EQ(fitted("女の子", 4), "女…");  // a wide character does not fit into the one column left
  EXPECT_EQ(fitted("playhouse", 5, true), "play.");
  EXPECT_EQ(fitted("playhouse", 0), "");
}

}  // namespace
}  // namespace qkv::explain
