#include "qkv/train/text_file.h"

#include <gtest/gtest.h>

#include "qkv/io/testing.h"

namespace qkv {
namespace {

using Texts = std::vector<std::string>;

class TextFile : public ::testing::Test {
 protected:
  Texts read(const std::string& text, Documents documents) {
    io::testing::put(folder_ / "text", text);
    return read_documents(folder_ / "text", documents);
  }
  io::testing::TemporaryFolder folder_;
};

TEST_F(TextFile, IsCutIntoDocumentsInThreeWays) {
  const std::string text = "\n  \none\r\n two\n\n \nthree\n\n";
  EXPECT_EQ(read(text, Documents::kFile), (Texts{"one\n two\n\n \nthree"}));
  EXPECT_EQ(read(text, Documents::kParagraphs), (Texts{"one\n two", "three"}));
  EXPECT_EQ(read(text, Documents::kLines), (Texts{"one", " two", "three"}));
}

TEST_F(TextFile, WithoutTextIsRefused) {
  EXPECT_ERROR(kFormat, "holds no text", read("\n \n", Documents::kFile));
  EXPECT_ERROR(kValue, "\"pages\" is not one of file, paragraphs, lines", documents_from_name("pages"));
}

TEST(Tail, IsWholeDocumentsOrTheLastLinesOfOne) {
  Texts documents = {"aaaa", "bb", "cc", "dd"};
  EXPECT_EQ(take_tail(documents, 0.3), (Texts{"cc", "dd"}));
  EXPECT_EQ(documents, (Texts{"aaaa", "bb"}));
  Texts one = {"first\nsecond\nthird\nfourth"};
  EXPECT_EQ(take_tail(one, 0.55), (Texts{"third\nfourth"}));
  EXPECT_EQ(one, (Texts{"first\nsecond"}));
}

TEST(Tail, NeedsSomethingOnBothSides) {
  Texts line = {"one long line"};
  EXPECT_ERROR(kFormat, "no line begins in the last 6 bytes", take_tail(line, 0.5));
  EXPECT_ERROR(kValue, "share held out is 1", take_tail(line, 1));
}

}  // namespace
}  // namespace qkv
