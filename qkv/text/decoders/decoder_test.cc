#include "qkv/text/decoders/decoder.h"

#include <gtest/gtest.h>

#include "qkv/base/error.h"

namespace qkv::text {
namespace {

using Strings = std::vector<std::string>;

DecoderPtr make(const std::string& json) {
  auto part = decoder_from_json(io::parse_json(json, "test"), "test");
  EXPECT_EQ(decoder_from_json(part->to_json(), "again")->to_json(), part->to_json());
  return part;
}

std::string decoded(const std::string& json, const Strings& pieces) {
  std::string out;
  for (const std::string& piece : make(json)->apply(pieces)) out += piece;
  return out;
}

TEST(Decoder, ByteLevelJoinsBytesBeforeItReadsCharacters) {
  EXPECT_EQ(decoded(R"({"type":"ByteLevel"})", {"\u0120caf\u00C3", "\u00A9"}), " caf\u00E9");
  EXPECT_EQ(decoded(R"({"type":"ByteLevel"})", {"caf\u00C3", "!"}), "caf\uFFFD!");
  EXPECT_EQ(decoded(R"({"type":"ByteLevel"})", {"a", "\u4F60"}), "a\u4F60") << "no byte: taken as it is";
}

TEST(Decoder, ByteFallbackReadsRunsOfBytes) {
  const std::string json = R"({"type":"ByteFallback"})";
  EXPECT_EQ(decoded(json, {"a", "<0xE4>", "<0xBD>", "<0xA0>", "b"}), "a\u4F60b");
  EXPECT_EQ(decoded(json, {"<0xE4>", "<0xBD>"}), "\uFFFD\uFFFD") << "one for each byte";
  EXPECT_EQ(decoded(json, {"<0xZZ>", "<0x1>", "<0x123>", "<0x+5>"}), "<0xZZ><0x1><0x123><0x+5>");
}

TEST(Decoder, TheOthersReplaceJoinOrStrip) {
  EXPECT_EQ(decoded(R"({"type":"BPEDecoder","suffix":"</w>"})", {"lo", "w</w>", "new</w>"}), "low new");
  EXPECT_EQ(decoded(R"({"type":"Metaspace","replacement":"▁"})", {"▁a", "b", "▁c"}), "ab c");
  EXPECT_EQ(decoded(R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"never"})", {"▁a", "▁c"}),
            " a c");
  EXPECT_EQ(decoded(R"({"type":"Replace","pattern":{"String":"_"},"content":" "})", {"_a_", "b"}), " a b");
  EXPECT_EQ(make(R"({"type":"Fuse"})")->apply({"a", "b"}), Strings{"ab"});
  EXPECT_EQ(make(R"({"type":"Strip","content":"_","start":1,"stop":2})")->apply({"__a___", "_", ""}),
            (Strings{"_a_", "", ""}));
}

TEST(Decoder, APieceAloneKeepsItsSpaceAndItsBytes) {
  const auto bytes = make(R"({"type":"Sequence","decoders":[{"type":"ByteLevel"},
      {"type":"Strip","content":" ","start":1,"stop":0}]})");
  EXPECT_EQ(bytes->piece_text("\u0120low"), " low");
  EXPECT_EQ(bytes->piece_text("\u00C3"), "\xC3") << "half a character";
  const auto spm =
      make(R"({"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},
      {"type":"ByteFallback"},{"type":"Fuse"}]})");
  EXPECT_EQ(spm->piece_text("▁low"), " low");
  EXPECT_EQ(spm->piece_text("<0xE4>"), "\xE4");
}

TEST(Decoder, GrowthAndNonsenseAreErrors) {
  std::string json = R"({"type":"Sequence","decoders":[)";
  for (int i = 0; i < 40; ++i)
    json += std::string(i ? "," : "") + R"({"type":"Replace","pattern":{"String":"a"},"content":"aa"})";
  EXPECT_THROW(decoded(json + "]}", {"a"}), Error);
  EXPECT_THROW(make(R"({"type":"Enigma"})"), Error);
  EXPECT_THROW(make(R"({"type":"Strip","content":"ab","start":1,"stop":0})"), Error);
  EXPECT_THROW(make(R"({"type":"Strip","content":"a","start":-1,"stop":0})"), Error);
  EXPECT_THROW(make(R"({"type":"Strip","content":"a","start":1e30,"stop":0})"), Error);
}

}  // namespace
}  // namespace qkv::text
