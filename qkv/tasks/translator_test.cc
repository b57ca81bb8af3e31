#include "qkv/tasks/translator.h"

#include <gtest/gtest.h>

#include "qkv/base/testing.h"
#include "qkv/io/json.h"
#include "qkv/tasks/toy_model.h"

namespace qkv {
namespace {

using Strings = std::vector<std::string>;
using Values = std::vector<double>;

TranslateOptions options(DType dtype = DType::kF32) {
  TranslateOptions o{.precision = dtype};
  o.search.beam_size = 3;
  o.search.max_length = 10;
  return o;
}

Strings texts(const std::vector<Translation>& results) {
  Strings out;
  for (const Translation& t : results) out.push_back(t.text());
  return out;
}

TEST(Translator, GivesALineForALineAndNothingForABlankOne) {
  const Translator translator(test::toy_model(), options());
  const auto results = translator.translate({"one two", "", "three", " \t ", "one two"});
  ASSERT_EQ(results.size(), 5u);
  for (size_t i : {1, 3}) {
    EXPECT_TRUE(results[i].n_best.empty());
    EXPECT_EQ(results[i].text(), "");
  }
  EXPECT_FALSE(results[0].n_best.empty());
  EXPECT_EQ(results[0].n_best[0].score, results[4].n_best[0].score);
  EXPECT_NE(results[0].n_best[0].score, results[2].n_best[0].score);
  EXPECT_TRUE(translator.translate({}).empty());
}

TEST(Translator, TheBatchDoesNotShow) {
  const Strings lines = {"a", "bb cc", "a longer line of words", "d", "ee ff gg", "a longer line of words"};
  TranslateOptions one = options(), all = options();
  one.batch_sentences = 1;
  const auto alone = Translator(test::toy_model(), one).translate(lines);
  const auto together = Translator(test::toy_model(), all).translate(lines);
  EXPECT_EQ(texts(alone), texts(together));
  for (size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(alone[i].n_best[0].score, together[i].n_best[0].score);
}

// Eight bytes and the end fit: " abc defg hi" is cut before " defg", not behind " abc def".
TEST(Translator, CutsLongLinesBetweenWords) {
  TranslateOptions o = options();
  o.max_source_tokens = 9;
  const Translator translator(test::toy_model(), o);
  const Translation whole = translator.translate({"abc defg hi"})[0];
  const std::vector<Translation> parts = translator.translate({"abc", "defg hi"});
  EXPECT_TRUE(whole.was_cut);
  EXPECT_FALSE(parts[1].was_cut);
  EXPECT_EQ(whole.text(), parts[0].text() + " " + parts[1].text());
  EXPECT_EQ(whole.n_best[0].score, parts[0].n_best[0].score + parts[1].n_best[0].score);
  EXPECT_FALSE(translator.translate({"abc def"})[0].was_cut) << "just fits";
  EXPECT_TRUE(translator.translate({"abcdefghijk"})[0].was_cut) << "a long word is cut where it must be";

  o.prefix = {"Ja"};
  const auto forced = Translator(test::toy_model(), o).translate({"abc defg hi", "abc"});
  EXPECT_EQ(forced[0].text(), forced[1].text() + " " + parts[1].text()) << "the prefix is the line's";
}

TEST(Translator, BeginsWithThePrefixAskedFor) {
  TranslateOptions o = options();
  o.prefix = {"Ja"};
  EXPECT_EQ(Translator(test::toy_model(), o).translate({"yes"})[0].text().substr(0, 2), "Ja");
  o.prefix = {"Ja", ""};
  const auto results = Translator(test::toy_model(), o).translate({"yes", "no"});
  EXPECT_EQ(results[0].text().substr(0, 2), "Ja");
  EXPECT_EQ(results[1].text(), Translator(test::toy_model(), options()).translate({"no"})[0].text());
  EXPECT_ERROR(kValue, "2 prefixes for 1 lines", Translator(test::toy_model(), o).translate({"yes"}));
}

// A model that would write nothing else, were it let.
TEST(Translator, NeverWritesALineEndNorAnUnknownWord) {
  const TranslationModel model = test::toy_model();
  const Tokenizer& tokenizer = *model.target_tokenizer;
  const ParameterPtr bias = model.transformer->parameters().find("final_logits_bias");
  for (int32_t id = 0; id < static_cast<int32_t>(tokenizer.vocab_size()); ++id)
    if (const std::string text = tokenizer.piece_text(id);
        text == "\n" || text == "\r" || tokenizer.piece(id) == "<unk>" || tokenizer.piece(id) == "<pad>")
      bias->value().data<float>()[id] = 100;
  const Translator translator(model, options());
  for (const Translation& t : translator.translate({"a", "b c", "d e f"})) {
    EXPECT_EQ(t.text().find_first_of("\r\n"), std::string::npos);
    for (int32_t id : t.n_best[0].hypothesis.text_ids()) EXPECT_FALSE(tokenizer.is_special(id)) << id;
  }
}

// A gap in the vocabulary and rows that pad the embedding, of a model that would write nothing else.
TEST(Translator, NeverWritesAnIdWithoutAPiece) {
  const TranslationModel whole = test::toy_model();
  io::Json json = io::parse_json(whole.target_tokenizer->to_json(), "toy");
  const int32_t gap = *whole.target_tokenizer->id_of("a");
  json["model"]["vocab"].erase("a");
  TransformerConfig config = whole.transformer->config();
  const int32_t rows = static_cast<int32_t>(config.vocab_size);
  config.vocab_size += 5;
  const auto tokenizer = std::make_shared<Tokenizer>(Tokenizer::from_json(io::dump_json(json), "toy"));
  const TranslationModel model{std::make_shared<Transformer>(config, 5), tokenizer, tokenizer};
  const ParameterPtr bias = model.transformer->parameters().find("final_logits_bias");
  for (int32_t id : {gap, rows, rows + 4}) bias->value().data<float>()[id] = 100;
  const Translator translator(model, options());
  for (const Translation& t : translator.translate({"b", "b c"}))
    for (const Translation::Candidate& c : t.n_best)
      for (int32_t id : c.hypothesis.ids) EXPECT_TRUE(tokenizer->has_piece(id)) << id;
}

TEST(Translator, RefusesTextThatIsNoText) {
  const Translator translator(test::toy_model(), options());
  EXPECT_ERROR(kValue, "line 2 is not UTF-8 at byte 3", translator.translate({"fine", "ab\xff"}));
  TranslateOptions none = options();
  none.batch_sentences = 0;
  EXPECT_ERROR(kValue, "batch_sentences is 0", Translator(test::toy_model(), none));
}

// Sums of the rows of maps [layers, heads, rows, columns].
Values row_sums(const Tensor& maps) {
  Values sums(static_cast<size_t>(maps.numel() / maps.size(3)), 0);
  const Values w = maps.values();
  for (size_t i = 0; i < w.size(); ++i) sums[i / static_cast<size_t>(maps.size(3))] += w[i];
  return sums;
}

TEST(Explain, GivesEveryLayerAndHeadOfAllThreeAttentions) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Translator translator(test::toy_model(), options(dtype));
    const std::vector<int32_t> source = {10, 11, 12, 13, 1}, target = {20, 21, 22, 1};
    const AttentionMaps maps = translator.explain(source, target);
    EXPECT_EQ(maps.source_ids, source);
    EXPECT_EQ(maps.target_ids, target);
    EXPECT_EQ(maps.cross.shape(), (Shape{3, 2, 4, 5}));
    EXPECT_EQ(maps.encoder.shape(), (Shape{2, 2, 5, 5}));
    EXPECT_EQ(maps.decoder.shape(), (Shape{3, 2, 4, 4}));
    for (const Tensor& map : {maps.cross, maps.encoder, maps.decoder})
      for (double sum : row_sums(map)) EXPECT_NEAR(sum, 1, 1e-5);
    // The translation sees what it has written, not what comes.
    for (int64_t l = 0; l < 3; ++l)
      for (int64_t h = 0; h < 2; ++h)
        for (int64_t t = 0; t < 4; ++t)
          for (int64_t j = 0; j < 4; ++j) EXPECT_EQ(maps.decoder.at({l, h, t, j}) > 0, j <= t);
    // No two heads of fresh weights look alike: no map was written to another's place.
    EXPECT_NE(maps.encoder.slice(0, 0, 1).values(), maps.encoder.slice(0, 1, 2).values());
    EXPECT_NE(maps.encoder.slice(1, 0, 1).values(), maps.encoder.slice(1, 1, 2).values());
  }
}

// What the steps of a search saw: a step does not know what comes after it, and the source knows nothing of
// the translation.
TEST(Explain, ALongerTranslationLeavesTheEarlierStepsAsTheyWere) {
  const Translator translator(test::toy_model(), options());
  const std::vector<int32_t> source = {10, 11, 12, 13, 1};
  const AttentionMaps whole = translator.explain(source, {20, 21, 22, 23, 1});
  const AttentionMaps part = translator.explain(source, {20, 21, 22});
  EXPECT_EQ(part.encoder.values(), whole.encoder.values());
  EXPECT_EQ(part.cross.values(), whole.cross.slice(2, 0, 3).values());
  EXPECT_EQ(part.decoder.values(), whole.decoder.slice(2, 0, 3).slice(3, 0, 3).values());
  // Row t has read target[0 .. t - 1], not target[t].
  const AttentionMaps other = translator.explain(source, {20, 21, 99});
  EXPECT_EQ(other.decoder.values(), part.decoder.values());
  EXPECT_NE(translator.explain(source, {20, 99, 22}).decoder.values(), part.decoder.values());
}

TEST(Explain, ComputesOnlyWhatIsAskedFor) {
  const Translator translator(test::toy_model(), options());
  const AttentionMaps all = translator.explain({10, 11, 1}, {20, 1});
  const AttentionMaps cross = translator.explain({10, 11, 1}, {20, 1}, {"cross"});
  EXPECT_EQ(cross.cross.values(), all.cross.values());
  EXPECT_FALSE(cross.encoder.defined() || cross.decoder.defined());
  const AttentionMaps self = translator.explain({10, 11, 1}, {20, 1}, {"encoder", "decoder"});
  EXPECT_FALSE(self.cross.defined());
  EXPECT_EQ(self.encoder.values(), all.encoder.values());
  EXPECT_EQ(self.decoder.values(), all.decoder.values());
}

}  // namespace
}  // namespace qkv
