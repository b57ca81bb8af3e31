#include "qkv/text/line_reader.h"

#include "qkv/io/testing.h"

namespace qkv {
namespace {

using Lines = std::vector<std::string>;
using io::testing::put;

class LineReaderFiles : public ::testing::Test {
 protected:
  Lines lines(std::string_view text) {
    put(path_, text);
    return read_lines(path_);
  }
  io::testing::TemporaryFolder folder_;
  const std::string path_ = folder_ / "hyp.txt";
};

TEST_F(LineReaderFiles, EndLinesAtNewlinesAlone) {
  EXPECT_EQ(lines("a\nb\n"), (Lines{"a", "b"}));
  EXPECT_EQ(lines("a\nb"), (Lines{"a", "b"}));
  EXPECT_EQ(lines("a\r\nb\r\n"), (Lines{"a", "b"}));
  EXPECT_EQ(lines("a\rb\u2028c\fd\n"), (Lines{"a\rb\u2028c\fd"}));
  EXPECT_EQ(lines("\n\n a \n\n"), (Lines{"", "", " a ", ""})) << "blanks and empty lines are kept";
  EXPECT_EQ(lines("a\r\r\n"), (Lines{"a\r"}));
  EXPECT_EQ(lines(std::string_view("a\0b\n", 4)), (Lines{std::string("a\0b", 3)}));
  EXPECT_EQ(lines(""), Lines{});
}

TEST_F(LineReaderFiles, DropAMarkAtTheBeginningAlone) {
  EXPECT_EQ(lines("\uFEFFa\n\uFEFFb"), (Lines{"a", "\uFEFFb"}));
  EXPECT_EQ(lines("\uFEFF"), Lines{});
  EXPECT_EQ(lines("\uFEFF\n"), Lines{""});
}

TEST_F(LineReaderFiles, NameTheFileLineAndByteOfWhatIsNotUtf8) {
  EXPECT_ERROR(
      kFormat,
      "hyp.txt: line 2 is not UTF-8 at byte 2 (0xfc); convert it first, for example with iconv -f LATIN1",
      lines("fine\nb\xfcse\n"));
  EXPECT_ERROR(kFormat, "line 1 is not UTF-8 at byte 1 (0xff); it looks like UTF-16",
               lines(std::string_view("\xff\xfe\x61\0", 4)));
}

TEST_F(LineReaderFiles, HaveLimits) {
  put(path_, "12345\n123456\n");
  LineReader reader(path_, 5);
  EXPECT_EQ(reader.next(1), Lines{"12345"});
  EXPECT_ERROR(kFormat, "hyp.txt: line 2 is longer than 5 bytes", reader.next(1));
  EXPECT_EQ(read_lines(path_, 13).size(), 2u);
  EXPECT_ERROR(kFormat, "at most 12 bytes", read_lines(path_, 12));
}

// Lines longer than what a stream gives at once, in parts of any size.
TEST_F(LineReaderFiles, StreamAnyNumberOfLinesOfAnyLength) {
  Lines expected;
  std::string text;
  for (int i = 0; i < 300; ++i) {
    expected.push_back(std::string(static_cast<size_t>(i * i), static_cast<char>('a' + i % 26)));
    text += expected.back() + (i % 3 == 0 ? "\r\n" : "\n");
  }
  EXPECT_EQ(lines(text), expected);
  for (const size_t most : {1, 7, 299, 1000}) {
    LineReader reader(path_);
    Lines all;
    for (Lines some = reader.next(most); !some.empty(); some = reader.next(most)) {
      EXPECT_LE(some.size(), most);
      all.insert(all.end(), some.begin(), some.end());
    }
    EXPECT_EQ(all, expected);
    EXPECT_TRUE(reader.next(most).empty());
  }
}

TEST(IsBlank, IsAboutUnicodesWhiteSpace) {
  for (const char* line : {"", " ", "\t\r\v\f", "\u00A0\u3000\u2028"}) EXPECT_TRUE(is_blank(line)) << line;
  for (const char* line : {"a", "  .", "à", "\u200B", "\xA0"}) EXPECT_FALSE(is_blank(line)) << line;
}

}  // namespace
}  // namespace qkv
