#include <gtest/gtest.h>

#include <chrono>

#include "qkv/base/error.h"
#include "qkv/text/models/merge_table.h"
#include "qkv/text/models/model.h"

namespace qkv::text {
namespace {

using io::Json;
using Strings = std::vector<std::string>;

// A model whose vocabulary is `pieces`, in order.
Json bpe(const Strings& pieces, const Strings& merges, const Json& options = Json::object()) {
  Json vocab = Json::object();
  for (size_t i = 0; i < pieces.size(); ++i) vocab[pieces[i]] = i;
  Json out = {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}};
  out.update(options);
  return out;
}

Strings pieces_of(const Json& json, const std::string& word) {
  const auto model = model_from_json(json, "test");
  std::vector<WordPiece> out;
  model->tokenize(word, out);
  Strings pieces;
  for (const auto& p : out) pieces.push_back(*model->vocab().piece(p.id));
  std::vector<WordPiece> again;
  model->tokenize(word, again);  // from the cache
  EXPECT_EQ(again.size(), out.size());
  return pieces;
}

TEST(Bpe, MergesByRankAndLeftmostFirst) {
  const Json json = bpe({"a", "b", "c", "ab", "bc", "abc", "aa"}, {"b c", "a b", "a bc", "a a"});
  EXPECT_EQ(pieces_of(json, "abc"), (Strings{"abc"})) << "b c has the lower rank";
  EXPECT_EQ(pieces_of(json, "abab"), (Strings{"ab", "ab"}));
  EXPECT_EQ(pieces_of(json, "aaa"), (Strings{"aa", "a"}));
}

TEST(Bpe, MergesMayBeStringsOrPairs) {
  Json json = bpe({"a", "b", "ab"}, {});
  json["merges"] = Json::array({Json::array({"a", "b"})});
  EXPECT_EQ(pieces_of(json, "ab"), Strings{"ab"});
}

TEST(Bpe, UnknownCharactersAreDroppedReplacedOrSpelledInBytes) {
  EXPECT_EQ(pieces_of(bpe({"a"}, {}), "xa\u00E9"), Strings{"a"});
  EXPECT_EQ(pieces_of(bpe({"?", "a"}, {}, {{"unk_token", "?"}}), "xya"), (Strings{"?", "?", "a"}));
  EXPECT_EQ(pieces_of(bpe({"?", "a"}, {}, {{"unk_token", "?"}, {"fuse_unk", true}}), "xyax"),
            (Strings{"?", "a", "?"}));
  const Json bytes = bpe({"?", "a", "<0xC3>", "<0xA9>"}, {}, {{"unk_token", "?"}, {"byte_fallback", true}});
  EXPECT_EQ(pieces_of(bytes, "a\u00E9\u00E8"), (Strings{"a", "<0xC3>", "<0xA9>", "?"}))
      << "0xA8 is not there";
}

TEST(Bpe, PiecesSayWhichBytesTheyAre) {
  const auto model = model_from_json(bpe({"?", "a", "<0xC3>", "<0xA9>"}, {},
                                         {{"unk_token", "?"}, {"fuse_unk", true}, {"byte_fallback", true}}),
                                     "test");
  std::vector<WordPiece> out;
  model->tokenize("a\u00E9\u4F60\u4F60", out);
  ASSERT_EQ(out.size(), 4u);
  const uint32_t ends[] = {1, 2, 3, 9};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(out[i].begin, i == 0 ? 0 : ends[i - 1]);
    EXPECT_EQ(out[i].end, ends[i]);
  }
}

TEST(Bpe, PrefixMarksInnerPiecesAndSuffixTheLast) {
  const Json prefix =
      bpe({"a", "##b", "##c", "ab", "abc"}, {"a ##b", "ab ##c"}, {{"continuing_subword_prefix", "##"}});
  EXPECT_EQ(pieces_of(prefix, "abc"), Strings{"abc"});
  const Json suffix = bpe({"a", "b", "b</w>", "ab</w>"}, {"a b</w>"}, {{"end_of_word_suffix", "</w>"}});
  EXPECT_EQ(pieces_of(suffix, "ab"), Strings{"ab</w>"});
  EXPECT_EQ(pieces_of(suffix, "aba"), (Strings{"a", "b"})) << "a</w> is unknown and dropped";
}

TEST(Bpe, IgnoreMergesTakesAWholeWordFirst) {
  const Strings pieces = {"a", "b", "ab"};
  EXPECT_EQ(pieces_of(bpe(pieces, {}), "ab"), (Strings{"a", "b"}));
  EXPECT_EQ(pieces_of(bpe(pieces, {}, {{"ignore_merges", true}}), "ab"), Strings{"ab"});
}

TEST(Bpe, AHundredThousandEqualCharactersTakeLessThanASecond) {
  Strings pieces = {"a"}, merges;
  for (int i = 0; i < 16; ++i) {
    merges.push_back(pieces.back() + " " + pieces.back());
    pieces.push_back(pieces.back() + pieces.back());
  }
  const auto model = model_from_json(bpe(pieces, merges), "test");
  std::vector<WordPiece> out;
  const auto start = std::chrono::steady_clock::now();
  model->tokenize(std::string(100000, 'a'), out);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
  // Pairs of the lowest rank merge first, so the run halves again and again: the binary digits of 100,000.
  EXPECT_EQ(out.size(), 6u);
}

TEST(Bpe, RefusesBrokenFilesByPlace) {
  const auto message = [](const Json& json) -> std::string {
    try {
      model_from_json(json, "m");
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  const auto says = [&](const Json& json, const std::string& text) {
    EXPECT_NE(message(json).find(text), std::string::npos) << message(json);
  };
  const Strings ab = {"a", "b", "ab"};
  says(bpe(ab, {"a"}), "merge 0: needs two pieces with one space");
  says(bpe(ab, {"a b", "a b c"}), "merge 1: needs two pieces");
  says(bpe(ab, {" b"}), "is empty");
  says(bpe(ab, {"a "}), "is empty");
  says(bpe(ab, {"a x"}), "\"x\" is not in the vocabulary");
  says(bpe(ab, {"b a"}), "\"ba\" is not in the vocabulary");
  says(bpe(ab, {}, {{"merges", {1, 2}}}), "merge 0");
  says(bpe(ab, {}, {{"merges", "a b"}}), "merges");
  says(bpe(ab, {}, {{"vocab", {{"a", -1}}}}), "not in 0..2147483647");
  says(bpe(ab, {}, {{"vocab", {{"a", 4294967296}}}}), "4294967296, is not in 0..2147483647");
  says(bpe(ab, {}, {{"vocab", {{"a", UINT64_MAX}}}}), "18446744073709551615, is not in 0..2147483647");
  says(bpe(ab, {}, {{"vocab", {{"a", 1.5}}}}), "needs to be an integer");
  says(bpe(ab, {}, {{"vocab", {{"a", "0"}}}}), "needs to be an integer");
  says(bpe(ab, {}, {{"vocab", {{"a", 1}, {"b", 1}}}}), "share the id 1");
  says(bpe(ab, {}, {{"vocab", Json::array({"a"})}}), "vocab");
  says(bpe(ab, {}, {{"unk_token", "[UNK]"}}), "\"[UNK]\" is not in the vocabulary");
  says(bpe(ab, {}, {{"dropout", 0.1}}), "dropout");
  says(bpe(ab, {}, {{"fuse_unk", "yes"}}), "fuse_unk");
  says(Json{{"type", "Oracle"}}, "unknown type \"Oracle\"; qkv knows BPE");
  EXPECT_EQ(message(bpe(ab, {"a b"}, {{"dropout", 0.0}})), "no error");
  EXPECT_EQ(message(bpe(ab, {}, {{"vocab", {{"a", 2147483647}}}})), "no error")
      << "a large id costs no memory";
}

TEST(MergeTable, FindsWhatWasPutAndNothingElse) {
  MergeTable table(1000);
  for (int32_t i = 0; i < 1000; ++i) table.set(i, i * 7, {i, i + 1});
  for (int32_t i = 0; i < 1000; ++i) {
    ASSERT_TRUE(table.find(i, i * 7));
    EXPECT_EQ(table.find(i, i * 7)->rank, i);
    EXPECT_FALSE(table.find(i * 7 + 1, i));
  }
  table.set(3, 21, {99, 99});
  EXPECT_EQ(table.find(3, 21)->rank, 99) << "the later one counts";
}

}  // namespace
}  // namespace qkv::text
