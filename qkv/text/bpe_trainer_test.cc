#include "qkv/text/bpe_trainer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <random>

#include "qkv/base/testing.h"
#include "qkv/io/file.h"
#include "qkv/io/json.h"
#include "qkv/text/utf8.h"

namespace qkv {
namespace {

using Ids = std::vector<int32_t>;
using Strings = std::vector<std::string>;

// The dictionary of the paper, section 3.2: {low: 5, lower: 2, newest: 6, widest: 3}.
Strings paper() {
  Strings lines;
  for (const auto& [word, count] : {std::pair{"low", 5}, {"lower", 2}, {"newest", 6}, {"widest", 3}})
    for (int i = 0; i < count; ++i) lines.push_back(word);
  return lines;
}

Strings pieces_of(const Tokenizer& t, std::string_view text) {
  Strings out;
  for (const int32_t id : t.encode(text)) out.emplace_back(t.piece(id));
  return out;
}

// e s, s t: 9 times each, e < s; es t: 9; l o, o w and Ġ l: 7, and so on. Ġ is U+0120, after every letter.
TEST(BpeTrainer, LearnsTheMergesOfThePaper) {
  const Tokenizer t = train_bpe(paper(), {.vocab_size = 3 + 256 + 15});
  const char* learnt[] = {"es",    "est",    "lo",           "low",          "\u0120low",
                          "ew",    "ewest",  "newest",       "\u0120newest", "dest",
                          "idest", "widest", "\u0120widest", "er",           "\u0120lower"};
  for (size_t i = 0; i < std::size(learnt); ++i)
    EXPECT_EQ(t.piece(static_cast<int32_t>(259 + i)), learnt[i]) << i;
  EXPECT_EQ(pieces_of(t, "lowest newer"), (Strings{"\u0120low", "est", "\u0120", "n", "ew", "er", "</s>"}));
}

TEST(BpeTrainer, SpecialTokensComeFirstAndTheEndIsAppended) {
  const Tokenizer t = train_bpe(paper(), {.vocab_size = 270});
  EXPECT_EQ(t.id_of("<pad>"), 0);
  EXPECT_EQ(t.id_of("</s>"), 1);
  EXPECT_EQ(t.id_of("<unk>"), 2);
  EXPECT_EQ(t.vocab_size(), 270);
  EXPECT_EQ(t.encode(""), Ids{1});
  EXPECT_EQ(t.encode("low").back(), 1);
  EXPECT_EQ(t.decode(t.encode("low")), "low");
}

TEST(BpeTrainer, AWordIsTheSameAtTheBeginningAndInside) {
  const Tokenizer t = train_bpe(paper(), {.vocab_size = 274});
  EXPECT_EQ(pieces_of(t, "low low"), (Strings{"\u0120low", "\u0120low", "</s>"}));
  const Tokenizer bare = train_bpe(paper(), {.vocab_size = 270, .prefix_space = false});
  EXPECT_EQ(pieces_of(bare, "low low"), (Strings{"low", "\u0120", "low", "</s>"}));
}

TEST(BpeTrainer, SaysHowLargeAVocabularyCanBe) {
  try {
    train_bpe(paper(), {.vocab_size = 1000});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kValue);
    EXPECT_STREQ(error.what(),
                 "tokenizer training: vocab_size 1000 is more than this text can give: at most 274 (3 "
                 "special tokens, 256 bytes, "
                 "15 merges of pairs that occur at least 2 times). Ask for 274 or less, lower min_frequency, "
                 "or add text");
  }
  EXPECT_EQ(train_bpe(paper(), {.vocab_size = 1000, .allow_smaller = true}).vocab_size(), 274);
  EXPECT_EQ(train_bpe(paper(), {.vocab_size = 274}).vocab_size(), 274);
  EXPECT_THROW(train_bpe(paper(), {.vocab_size = 275}), Error);
  EXPECT_THROW(train_bpe(paper(), {.vocab_size = 258}), Error) << "less than special tokens and bytes";
  EXPECT_EQ(train_bpe(paper(), {.vocab_size = 259}).vocab_size(), 259);
  EXPECT_EQ(train_bpe(paper(), {.vocab_size = 1000, .min_frequency = 6, .allow_smaller = true}).vocab_size(),
            259 + 9);
  EXPECT_EQ(train_bpe(Strings{}, {.vocab_size = 1000, .allow_smaller = true}).vocab_size(), 259)
      << "no text at all";
}

TEST(BpeTrainer, TheOrderOfTheLinesDoesNotMatter) {
  Strings lines = {"the cat sat on the mat", "a cat and a hat", "that is that", "\u00FCber \u00FCbel",
                   "in the thin tin"};
  for (int i = 0; i < 5; ++i) lines.insert(lines.end(), lines.begin(), lines.begin() + 5);
  const std::string first = train_bpe(lines, {.vocab_size = 285}).to_json();
  std::mt19937 random(7);
  for (int round = 0; round < 3; ++round) {
    std::shuffle(lines.begin(), lines.end(), random);
    EXPECT_EQ(train_bpe(lines, {.vocab_size = 285}).to_json(), first);
  }
}

// The definition, slowly: count all pairs of all words anew for every merge.
Strings learn_by_definition(std::vector<std::pair<Strings, int>> words, int merges) {
  Strings out;
  for (; merges > 0; --merges) {
    std::map<std::pair<std::string, std::string>, int> counts;
    for (const auto& [symbols, n] : words)
      for (size_t i = 0; i + 1 < symbols.size(); ++i) counts[{symbols[i], symbols[i + 1]}] += n;
    auto best = counts.begin();  // in lexicographic order, so the first of equals is the smaller
    for (auto it = counts.begin(); it != counts.end(); ++it)
      if (it->second > best->second) best = it;
    if (best == counts.end() || best->second < 2) break;
    const auto [left, right] = best->first;
    out.push_back(left + " " + right);
    for (auto& [symbols, n] : words) {
      Strings joined;
      for (size_t i = 0; i < symbols.size(); ++i) {
        if (i + 1 < symbols.size() && symbols[i] == left && symbols[i + 1] == right) {
          joined.push_back(left + right);
          ++i;
        } else {
          joined.push_back(symbols[i]);
        }
      }
      symbols = joined;
    }
  }
  return out;
}

TEST(BpeTrainer, CountsKeptUpToDateEqualCountsMadeAnew) {
  std::mt19937 random(3);
  for (int round = 0; round < 20; ++round) {
    Strings lines;
    std::map<std::string, int> counts;
    for (int i = 0; i < 60; ++i) {
      std::string word;
      for (size_t n = 1 + random() % 9; n > 0; --n)
        word += static_cast<char>('a' + random() % 3);  // many "aaa"
      lines.push_back(word);
      ++counts[word];
    }
    std::vector<std::pair<Strings, int>> words;
    for (const auto& [word, n] : counts) {
      Strings symbols;
      for (const char c : word) symbols.emplace_back(1, c);
      words.emplace_back(symbols, n);
    }
    const Strings expected = learn_by_definition(words, 1000);
    const Tokenizer t = train_bpe(lines, {.vocab_size = 5000, .prefix_space = false, .allow_smaller = true});
    EXPECT_EQ(io::parse_json(t.to_json(), "t")["model"]["merges"].get<Strings>(), expected);
  }
}

TEST(BpeTrainer, LongRunsOfOneCharacterTakeLessThanASecond) {
  const Tokenizer t = train_bpe(Strings(4, "aaaaaaaa        !!!!!!!! \u4F60\u4F60\u4F60\u4F60"),
                                {.vocab_size = 1000, .min_frequency = 1, .allow_smaller = true});
  for (const std::string one : {"a", " ", "!", "\n", "\u4F60", "\u0301"}) {
    std::string text;
    for (int i = 0; i < 100000; ++i) text += one;
    const auto start = std::chrono::steady_clock::now();
    const Ids ids = t.encode(text);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1)) << one;
    EXPECT_EQ(t.decode(ids), text);
  }
}

TEST(BpeTrainer, OffsetsGiveBackTheWords) {
  const Tokenizer t = train_bpe(paper(), {.vocab_size = 274});
  const std::string text = "low newest";
  const auto tokens = t.encode_with_offsets(text);
  ASSERT_EQ(tokens.size(), 3u);
  EXPECT_EQ(text.substr(static_cast<size_t>(tokens[0].begin), static_cast<size_t>(tokens[0].end)), "low");
  EXPECT_EQ(tokens[1].begin, 3);
  EXPECT_EQ(tokens[1].end, 10);
  EXPECT_EQ(tokens[2].begin, 10);
}

TEST(BpeTrainer, CharactersWithMarksForSpaces) {
  const Strings lines = {"low lower", "low lowest", "h\u00E9 low </s></s></s>", "</s></s></s> h\u00E9"};
  const Tokenizer t = train_bpe(lines, {.vocab_size = 60, .byte_level = false, .allow_smaller = true});
  EXPECT_EQ(pieces_of(t, "low lowx"), (Strings{"\u2581low", "\u2581low", "<unk>", "</s>"}));
  for (const std::string text : {"low h\u00E9", " low  low ", "", " ", "</s> low"}) {
    const Ids ids = t.encode(text);
    EXPECT_EQ(t.decode(ids), text);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), 1), 1)
        << "</s> in the text is no control token, merges and all";
  }
  EXPECT_THROW(train_bpe(lines, {.vocab_size = 10, .byte_level = false}), Error)
      << "fewer than the characters";
}

TEST(BpeTrainer, OptionsShapeTheVocabulary) {
  const Tokenizer t =
      train_bpe(Strings(5, "LOW Cafe\u0301 \uFB01n"),
                {.vocab_size = 300, .form = UnicodeForm::kNfkc, .lowercase = true, .allow_smaller = true});
  EXPECT_EQ(t.decode(t.encode("LOW Cafe\u0301 \uFB01n")), "low caf\u00E9 fin");
  EXPECT_TRUE(t.id_of("\u0120fin"));

  const Tokenizer shorter =
      train_bpe(paper(), {.vocab_size = 300, .max_token_length = 3, .allow_smaller = true});
  for (int32_t id = 3; id < shorter.vocab_size(); ++id) EXPECT_LE(utf8::length(shorter.piece(id)), 3);
  EXPECT_TRUE(shorter.id_of("est"));

  const Tokenizer bare = train_bpe(paper(), {.vocab_size = 260, .special_tokens = {}, .end_token = ""});
  EXPECT_EQ(bare.encode(""), Ids{});
}

TEST(BpeTrainer, ImpossibleOptionsAreNamed) {
  const Strings lines = paper();
  EXPECT_THROW(train_bpe(lines, {.vocab_size = 0}), Error);
  EXPECT_THROW(train_bpe(lines, {.min_frequency = 0}), Error);
  EXPECT_THROW(train_bpe(lines, {.max_token_length = -1}), Error);
  EXPECT_THROW(train_bpe(lines, {.special_tokens = {"</s>", "</s>"}}), Error);
  EXPECT_THROW(train_bpe(lines, {.special_tokens = {"</s>", ""}}), Error);
  EXPECT_THROW(train_bpe(lines, {.special_tokens = {"</s>", "a"}}), Error);
  EXPECT_THROW(train_bpe(lines, {.special_tokens = {"<pad>"}}), Error) << "the end token is missing";
  try {
    train_bpe(Strings{"fine", "not \xFF fine"}, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "tokenizer training: line 2: tokenizer: the text is not UTF-8 at byte 4 (0xff)");
  }
}

TEST(BpeTrainer, TenThousandMergesOfRealTextTakeSeconds) {
  const char* set = std::getenv("QKV_DATA");
  const std::string folder = std::string(set ? set : QKV_SOURCE_DIR "/../shared/data") + "/mt/multi30k/";
  Strings lines;
  for (const char* name : {"train.en.gz", "train.de.gz", "train.en", "train.de"}) {
    if (!io::exists(folder + name)) continue;
    const std::string text = io::read_maybe_gz(folder + name, 64 << 20);
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      lines.push_back(text.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  if (lines.empty()) GTEST_SKIP() << folder << " is not here; set QKV_DATA";
  const Tokenizer t = train_bpe(lines, {.vocab_size = 10259});
  EXPECT_EQ(t.vocab_size(), 10259);
  for (size_t i = 0; i < lines.size(); i += 97) EXPECT_EQ(t.decode(t.encode(lines[i])), lines[i]);
  const Tokenizer again = Tokenizer::from_json(t.to_json(), "again");
  EXPECT_EQ(again.encode(lines[1]), t.encode(lines[1]));
}

TEST(BpeTrainer, FramesATextAsItsModelWants) {
  BpeTrainerOptions options{.vocab_size = 258,
                            .prefix_space = false,
                            .special_tokens = {"[CLS]", "[SEP]"},
                            .start_token = "[CLS]",
                            .end_token = "[SEP]"};
  const std::vector<std::string> lines = {"low"};
  const Tokenizer framed = train_bpe(lines, options);
  const std::vector<int32_t> ids = framed.encode("low");
  ASSERT_EQ(ids.size(), 5u);
  EXPECT_EQ(ids.front(), 0);
  EXPECT_EQ(ids.back(), 1);
  EXPECT_EQ(framed.decode(ids), "low");
  options.start_token = options.end_token = "";
  EXPECT_EQ(train_bpe(lines, options).encode("low").size(), 3u);
  options.start_token = "[BOS]";
  EXPECT_ERROR(kValue, "start_token \"[BOS]\" is not among", (void)train_bpe(lines, options));
}

}  // namespace
}  // namespace qkv
