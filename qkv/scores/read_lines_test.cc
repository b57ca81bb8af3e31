#include "qkv/scores/read_lines.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "qkv/base/error.h"

namespace qkv::scores {
namespace {

using Lines = std::vector<std::string>;

std::string error_of(const std::function<void()>& f, ErrorCode code) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST(SplitLines, EndsLinesAtNewlinesAlone) {
  EXPECT_EQ(split_lines("a\nb\n", "x"), (Lines{"a", "b"}));
  EXPECT_EQ(split_lines("a\nb", "x"), (Lines{"a", "b"}));
  EXPECT_EQ(split_lines("a\r\nb\r\n", "x"), (Lines{"a", "b"}));
  EXPECT_EQ(split_lines("a\rb\u2028c\x0c"
                        "d\n",
                        "x"),
            (Lines{"a\rb\u2028c\x0c"
                   "d"}));
  EXPECT_EQ(split_lines("\n\n a \n", "x"), (Lines{"", "", " a"}));
  EXPECT_EQ(split_lines("\xEF\xBB\xBF"
                        "a\n\xEF\xBB\xBF"
                        "b",
                        "x"),
            (Lines{"a",
                   "\xEF\xBB\xBF"
                   "b"}));
}

TEST(SplitLines, NamesThePlaceOfBadBytes) {
  const auto text = [](std::string_view s) {
    return error_of([&] { split_lines(s, "hyp.txt"); }, ErrorCode::kFormat);
  };
  EXPECT_EQ(text("fine\nb\xfcse\n"),
            "hyp.txt: line 2, byte 2: 0xfc is not UTF-8; convert it first, as by iconv -f LATIN1 -t UTF-8");
  EXPECT_NE(text(std::string_view("\xff\xfe"
                                  "a\0",
                                  4))
                .find("looks like UTF-16"),
            std::string::npos);
  EXPECT_EQ(text(""), "hyp.txt: is empty; needs one sentence a line");
  EXPECT_NE(text("\xEF\xBB\xBF").find("no text"), std::string::npos);
}

TEST(ReadLines, SaysWhyAFileCannotBeRead) {
  const std::string folder = testing::TempDir() + "qkv_scores_lines";
  std::filesystem::create_directories(folder);
  error_of([&] { read_lines(folder + "/missing.txt"); }, ErrorCode::kIo);
  error_of([&] { read_lines(folder); }, ErrorCode::kIo);
  std::ofstream(folder + "/empty.txt").close();
  error_of([&] { read_lines(folder + "/empty.txt"); }, ErrorCode::kFormat);
  std::ofstream(folder + "/two.txt") << "one\r\ntwo";
  EXPECT_EQ(read_lines(folder + "/two.txt"), (Lines{"one", "two"}));
  std::filesystem::remove_all(folder);
}

TEST(CheckSameCounts, ListsEveryFile) {
  using Counts = std::vector<std::pair<std::string, int64_t>>;
  EXPECT_NO_THROW(check_same_counts(Counts{{"a", 3}, {"b", 3}}));
  EXPECT_EQ(error_of(
                [] {
                  check_same_counts(Counts{{"hyp", 3}, {"ref", 3}, {"src", 4}});
                },
                ErrorCode::kValue),
            "line counts differ: hyp has 3 lines, ref has 3, src has 4; line n of each must belong together");
}

}  // namespace
}  // namespace qkv::scores
