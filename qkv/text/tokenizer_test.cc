#include "qkv/text/tokenizer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <thread>

#include "qkv/base/error.h"
#include "qkv/io/json.h"

namespace qkv {
namespace {

using io::Json;
using Ids = std::vector<int32_t>;

// Words of the letters a-d with merges, `<s>` and `</s>` in the vocabulary, spaces as "_".
Json small() {
  return Json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null, "unknown key": {},
    "added_tokens": [{"id": 0, "content": "<s>", "special": true, "normalized": false},
                     {"id": 1, "content": "</s>", "special": true, "normalized": false}],
    "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "_"},
    "pre_tokenizer": null,
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                 {"SpecialToken": {"id": "</s>", "type_id": 0}}],
      "pair": [],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
                         "</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
    "decoder": {"type": "Replace", "pattern": {"String": "_"}, "content": " "},
    "model": {"type": "BPE", "unk_token": null,
      "vocab": {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "c": 4, "_": 5, "ab": 6, "<": 7, ">": 8, "/": 9, "s": 10},
      "merges": ["a b"]}})");
}

Tokenizer make(const Json& json) { return Tokenizer::from_json(json.dump(), "test.json"); }

TEST(Tokenizer, RunsItsStepsInOrder) {
  const Tokenizer t = make(small());
  EXPECT_EQ(t.encode("ab c"), (Ids{0, 6, 5, 4, 1}));
  EXPECT_EQ(t.encode("ab c", false), (Ids{6, 5, 4}));
  EXPECT_EQ(t.encode(""), (Ids{0, 1}));
  EXPECT_EQ(t.decode(Ids{0, 6, 5, 4, 1}), "ab c");
  EXPECT_EQ(t.decode(Ids{0, 6, 5, 4, 1}, false), "<s>ab c</s>");
  EXPECT_EQ(t.decode(Ids{6, -1, 999999, 4}), "abc") << "what is not in the vocabulary has no text";
  EXPECT_EQ(t.vocab_size(), 11);
  EXPECT_EQ(t.piece(6), "ab");
  EXPECT_EQ(t.piece_text(5), " ");
  EXPECT_EQ(t.id_of("ab"), 6);
  EXPECT_FALSE(t.id_of("zz"));
  EXPECT_TRUE(t.is_special(1));
  EXPECT_FALSE(t.is_special(2));
  EXPECT_THROW(t.piece(11), Error);
}

// Id 3 is left out, and the post-processor gives one that has no piece.
TEST(Tokenizer, AnIdWithoutAPieceHasNoText) {
  Json json = small();
  json["model"]["vocab"].erase("b");
  json["model"]["vocab"].erase("ab");
  json["model"]["merges"] = Json::array();
  const Tokenizer t = make(json);
  EXPECT_EQ(t.vocab_size(), 11);
  for (const int32_t id : {3, 6, 11, -1, 2000000000}) {
    EXPECT_FALSE(t.has_piece(id)) << id;
    EXPECT_EQ(t.piece_text(id), "") << id;
    EXPECT_THROW(t.piece(id), Error) << id;
  }
  EXPECT_TRUE(t.has_piece(2));
  EXPECT_TRUE(t.has_piece(0)) << "an added token";
}

TEST(Tokenizer, TheLargestIdItGivesCountsThePostProcessor) {
  EXPECT_EQ(make(small()).max_emitted_id(), 10);
  for (const char* token : {"<s>", "</s>"}) {
    Json json = small();
    json["post_processor"]["special_tokens"][token]["ids"] = {1, 2000000000};
    EXPECT_EQ(make(json).max_emitted_id(), 2000000000) << token;
    json["post_processor"] = {{"type", "Sequence"}, {"processors", {json["post_processor"]}}};
    EXPECT_EQ(make(json).max_emitted_id(), 2000000000) << token << " in a Sequence";
  }
  Json none = small();
  none["post_processor"] = nullptr;
  EXPECT_EQ(make(none).max_emitted_id(), 10);
}

TEST(Tokenizer, UserTextIsNeverReadAsControlTokensUnlessAsked) {
  const Tokenizer t = make(small());
  EXPECT_EQ(t.encode("a</s>", false), (Ids{2, 7, 9, 10, 8}));
  EXPECT_EQ(t.encode("a</s>b", {.add_special_tokens = false, .parse_special = true}), (Ids{2, 1, 3}));
  EXPECT_EQ(t.decode(t.encode("a</s>")), "a</s>");
}

TEST(Tokenizer, OffsetsAreBytesOfTheUsersText) {
  const Tokenizer t = make(small());
  const auto tokens = t.encode_with_offsets("ab c</s>", {.parse_special = true});
  const int64_t expected[][3] = {{0, 0, 0}, {6, 0, 2}, {5, 2, 3}, {4, 3, 4}, {1, 4, 8}, {1, 8, 8}};
  ASSERT_EQ(tokens.size(), std::size(expected));
  for (size_t i = 0; i < tokens.size(); ++i) {
    EXPECT_EQ(tokens[i].id, expected[i][0]);
    EXPECT_EQ(tokens[i].begin, expected[i][1]);
    EXPECT_EQ(tokens[i].end, expected[i][2]);
  }
}

Ids with_added(const std::string& token, const std::string& text) {
  Json json = small();
  json["post_processor"] = nullptr;
  json["added_tokens"] = Json::array({Json::parse(token)});
  return make(json).encode(text, {.parse_special = true});
}

TEST(AddedTokens, TakeTheModelsIdOrTheNextFreeOne) {
  EXPECT_EQ(with_added(R"({"id": 77, "content": "ab"})", "cab"), (Ids{4, 6}))
      << "the stored id is not obeyed";
  EXPECT_EQ(with_added(R"({"id": 77, "content": "ca"})", "cab"), (Ids{11, 3}));
}

TEST(AddedTokens, FlagsSayWhereTheyAreFound) {
  EXPECT_EQ(with_added(R"({"content": "ca", "single_word": true})", "ca"), (Ids{11}));
  EXPECT_EQ(with_added(R"({"content": "ca", "single_word": true})", "ca b"), (Ids{4, 2, 5, 3}))
      << "_ is a word character";
  EXPECT_EQ(with_added(R"({"content": "x", "normalized": false, "single_word": true})", "ax x"),
            (Ids{2, 5, 11}));
  EXPECT_EQ(with_added(R"({"content": "x", "normalized": false, "lstrip": true})", "a  x b"),
            (Ids{2, 11, 5, 3}));
  EXPECT_EQ(with_added(R"({"content": "x", "normalized": false, "rstrip": true})", "a x  b"),
            (Ids{2, 5, 11, 3}));
  EXPECT_EQ(with_added(R"({"content": "a b", "normalized": true})", "ca bc"), (Ids{4, 11, 4}))
      << "itself normalised";
  EXPECT_EQ(with_added(R"({"content": "a b", "normalized": false})", "ca bc"), (Ids{4, 11, 4}));
}

TEST(AddedTokens, TheLeftmostThenTheLongestIsTaken) {
  Json json = small();
  json["post_processor"] = nullptr;
  json["added_tokens"] =
      Json::parse(R"([{"content": "xy"}, {"content": "xyz"}, {"content": "yzzz"}, {"content": "xy"},
                                         {"content": ""}])");
  EXPECT_EQ(make(json).encode("xyzzz"), (Ids{12})) << "xyz, then zz that the model drops";
  EXPECT_EQ(make(json).encode("xyyzzz"), (Ids{11, 13}));
}

TEST(Tokenizer, WhatIsSavedReadsTheSame) {
  Json json = small();
  json["padding"] = {{"strategy", "BatchLongest"}, {"pad_id", 0}};
  json["truncation"] = {{"max_length", 10}, {"stride", 2}, {"strategy", "LongestFirst"}};
  const Tokenizer t = make(json);
  const std::string saved = t.to_json();
  const Tokenizer again = Tokenizer::from_json(saved, "saved");
  EXPECT_EQ(again.to_json(), saved);
  EXPECT_EQ(again.encode("ab c a"), t.encode("ab c a"));
  const Json written = Json::parse(saved);
  EXPECT_EQ(written["padding"], json["padding"]);
  EXPECT_EQ(written["truncation"], json["truncation"]);
  EXPECT_EQ(written["post_processor"], json["post_processor"]);

  const std::string path = testing::TempDir() + "qkv_tokenizer_test.json";
  t.save(path);
  EXPECT_EQ(Tokenizer::load(path).to_json(), saved);
  std::remove(path.c_str());
}

TEST(Tokenizer, ManyThreadsMayUseOne) {
  const Tokenizer t = make(small());
  const Ids expected = t.encode("ab c ab abc");
  std::vector<std::thread> team;
  std::atomic<int> wrong = 0;
  for (int i = 0; i < 4; ++i)
    team.emplace_back([&, i] {
      for (int k = 0; k < 500; ++k) {
        t.encode(std::string(static_cast<size_t>(k % 40), 'a') + std::string(static_cast<size_t>(i), 'b'));
        if (t.encode("ab c ab abc") != expected) ++wrong;
      }
    });
  for (auto& thread : team) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Tokenizer, TextThatIsNotUtf8IsRefusedWithItsPlace) {
  try {
    make(small()).encode("ab\xFF");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kValue);
    EXPECT_STREQ(error.what(), "tokenizer: the text is not UTF-8 at byte 2 (0xff)");
  }
}

// threats.md, section 2: every rule, with the file otherwise good.
TEST(Tokenizer, RefusesBrokenFiles) {
  const auto code = [](const Json& change) {
    Json json = small();
    json.merge_patch(change);  // null takes a key away
    try {
      make(json);
    } catch (const Error& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with("test.json: ")) << error.what();
      return std::string(name(error.code()));
    }
    return std::string("fine");
  };
  EXPECT_EQ(code(Json::object()), "fine");
  EXPECT_EQ(code({{"version", "2.0"}}), "unsupported");
  EXPECT_EQ(code({{"version", 1}}), "format");
  EXPECT_EQ(code({{"model", nullptr}}), "format");
  EXPECT_EQ(code({{"model", "BPE"}}), "format");
  EXPECT_EQ(code({{"model", {{"type", "Bpe"}}}}), "unsupported");
  EXPECT_EQ(code({{"normalizer", {{"type", "Rot13"}}}}), "unsupported");
  EXPECT_EQ(code({{"pre_tokenizer", 7}}), "format");
  EXPECT_EQ(code({{"decoder", Json::array()}}), "format");
  EXPECT_EQ(code({{"added_tokens", {{"a", 1}}}}), "format");
  EXPECT_EQ(code({{"added_tokens", {{{"id", 0}}}}}), "format") << "no content";
  EXPECT_EQ(code({{"added_tokens", {{{"id", -1}, {"content", "x"}}}}}), "format");
  EXPECT_EQ(code({{"added_tokens", {{{"id", 4294967296}, {"content", "x"}}}}}), "format");
  EXPECT_EQ(code({{"added_tokens", {{{"id", 4294967295}, {"content", "x"}}}}}), "fine")
      << "an id, if one we do not use";
  EXPECT_EQ(code({{"added_tokens", {{{"content", std::string(2000, 'x')}}}}}), "unsupported");
  EXPECT_EQ(code({{"post_processor", {{"single", Json::array()}}}}), "format") << "no A";
  EXPECT_EQ(code({{"post_processor", {{"special_tokens", {{"<s>", nullptr}}}}}}), "format");
  EXPECT_EQ(code({{"post_processor", {{"special_tokens", {{"<s>", {{"ids", {-5}}}}}}}}}), "format");
  EXPECT_EQ(code({{"post_processor", {{"type", "BertProcessing"}}}}), "unsupported");
  EXPECT_EQ(code({{"truncation", {{"max_length", 4}, {"stride", 4}}}}), "format");
  EXPECT_EQ(code({{"truncation", {{"max_length", 4}, {"stride", 3}}}}), "fine");
  EXPECT_EQ(code({{"padding", {{"strategy", "BatchLongest"}, {"pad_to_multiple_of", 0}}}}), "format");
  EXPECT_EQ(code({{"padding", {{"strategy", {{"Fixed", int64_t{1} << 62}}}}}}), "format");
  EXPECT_EQ(code({{"padding", {{"strategy", {{"Fixed", 16}}}}}}), "fine");
}

TEST(Tokenizer, DamagedBytesAreErrorsNeverCrashes) {
  const std::string good = small().dump();
  for (size_t cut = 0; cut < good.size(); cut += 3)
    EXPECT_THROW(Tokenizer::from_json(std::string_view(good).substr(0, cut), "cut"), Error) << cut;
  for (size_t at = 0; at < good.size(); ++at) {
    for (const char c : {'\0', '"', '}', '9', '\xFF', 'x'}) {
      std::string bad = good;
      bad[at] = c;
      try {
        Tokenizer::from_json(bad, "bad").encode("ab c</s>", {.parse_special = true});
      } catch (const Error&) {
      }
    }
  }
}

}  // namespace
}  // namespace qkv
