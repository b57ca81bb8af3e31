#include "qkv/scores/sentences.h"

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

TEST(ReadSentences, LosesTheWhiteSpaceAtTheEndsOfLines) {
  const std::string folder = testing::TempDir() + "qkv_scores_lines";
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/two.txt") << " one \t\r\n\u3000\ntwo\u00A0";
  EXPECT_EQ(read_sentences(folder + "/two.txt"), (Lines{" one", "", "two"}));
  for (const char* nothing : {"", "\uFEFF"}) {
    std::ofstream(folder + "/empty.txt") << nothing;
    EXPECT_EQ(error_of([&] { read_sentences(folder + "/empty.txt"); }, ErrorCode::kFormat),
              folder + "/empty.txt: is empty; needs one sentence a line");
  }
  error_of([&] { read_sentences(folder + "/missing.txt"); }, ErrorCode::kIo);
  std::filesystem::remove_all(folder);
}

TEST(CheckSameCounts, ListsEveryFile) {
  using Counts = std::vector<std::pair<std::string, int64_t>>;
  EXPECT_NO_THROW(check_same_counts(Counts{{"a", 3}, {"b", 3}}));
  EXPECT_EQ(error_of(
                [] {
                  check_same_counts(Counts{{"hyp", 3}, {"ref", 3}, {"src", 4}});
                },
                ErrorCode::kFormat),
            "line counts differ: hyp has 3 lines, ref has 3, src has 4; line n of each must belong together");
}

}  // namespace
}  // namespace qkv::scores
