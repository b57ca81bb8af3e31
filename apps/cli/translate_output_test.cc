#include "apps/cli/translate_output.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "qkv/io/json.h"
#include "qkv/tasks/toy_model.h"

namespace qkv::cli {
namespace {

using Values = std::vector<double>;

// Every cross-attention weight of this model is 1 / src_len, so a word is looked at by as much as it has
// letters, and all words look at the longest: a source of "a bb cccc" links 2-0, 2-1 and so on.
const Translator& even() {
  static const Translator translator(test::toy_model("uniform"), {.precision = DType::kF32});
  return translator;
}

const std::string kSource = "a bb cccc";

std::string shown(const std::vector<std::string>& texts, const OutputOptions& options,
                  const std::string& source = kSource) {
  return format_translation(even(), source, test::found(even(), source, texts), options);
}

TEST(FormatTranslation, PlainIsTheBestOne) {
  EXPECT_EQ(shown({"Ein Hund", "Der Hund"}, {}), "Ein Hund\n");
  EXPECT_EQ(shown({""}, {}), "\n") << "a model may say nothing";
}

TEST(FormatTranslation, ScoresFollowATab) {
  EXPECT_EQ(shown({"Ein Hund", "Der Hund"}, {.scores = true}), "Ein Hund\t-0.2500\n");
}

TEST(FormatTranslation, NBestListsHaveTheirScoresAndEndInAnEmptyLine) {
  const std::string list = "Ein Hund ||| -0.2500\nDer Hund ||| -0.5000\n\n";
  EXPECT_EQ(shown({"Ein Hund", "Der Hund"}, {.n_best = 2}), list);
  EXPECT_EQ(shown({"Ein Hund", "Der Hund"}, {.n_best = 2, .scores = true}), list);
}

TEST(FormatTranslation, AlignmentsAreSourceTargetPairsOfTheBestOne) {
  EXPECT_EQ(shown({"Ein Hund"}, {.align = true}), "Ein Hund ||| 2-0 2-1\n");
  EXPECT_EQ(shown({"Ein Hund"}, {.scores = true, .align = true}), "Ein Hund\t-0.2500 ||| 2-0 2-1\n");
  EXPECT_EQ(shown({"Ein Hund", "Hund"}, {.n_best = 2, .align = true}),
            "Ein Hund ||| -0.2500 ||| 2-0 2-1\nHund ||| -0.5000\n\n");
  EXPECT_EQ(shown({"Ein Hund."}, {.align = true}, "dddd bb"), "Ein Hund. ||| 0-0 0-1\n")
      << "words stand between blanks";
}

TEST(FormatTranslation, AnEmptyLineStaysAnEmptyLine) {
  const Translation nothing;
  for (const OutputOptions& o : {OutputOptions{}, OutputOptions{.scores = true, .align = true},
                                 OutputOptions{.n_best = 3}, OutputOptions{.align = true, .draw = true}})
    EXPECT_EQ(format_translation(even(), "", nothing, o), "\n");
  EXPECT_EQ(format_translation(even(), " ", nothing, {.align = true, .json = true}),
            "{\"source\":\" \",\"translation\":\"\",\"score\":null,\"n_best\":[]}\n");
}

TEST(FormatTranslation, JsonIsOneLineInThisOrder) {
  EXPECT_EQ(shown({"Ein \"Hund\"", "Hund"}, {.n_best = 2, .json = true}),
            "{\"source\":\"a bb cccc\",\"translation\":\"Ein \\\"Hund\\\"\",\"score\":-0.25,\"n_best\":"
            "[{\"text\":\"Ein \\\"Hund\\\"\",\"score\":-0.25},{\"text\":\"Hund\",\"score\":-0.5}]}\n");
  // A text that ends within a character is no reason to fail: a reader of JSON gets U+FFFD.
  Translation broken = test::found(even(), kSource, {"Hund"});
  broken.n_best[0].text += '\xC3';
  const std::string line = format_translation(even(), kSource, broken, {.json = true});
  EXPECT_EQ(io::parse_json(line, "line")["translation"], "Hund\uFFFD");
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

// 1, 2 and 4 tokens; what rested on the blanks between them and on the end of the source is shared out again.
TEST(FormatTranslation, JsonHasTheWeightsOfWords) {
  const io::Json json = io::parse_json(shown({"Ein Hund"}, {.align = true, .json = true}), "line");
  EXPECT_EQ(json["alignment"], "2-0 2-1");
  EXPECT_EQ(json["source_words"], (std::vector<std::string>{"a", "bb", "cccc"}));
  EXPECT_EQ(json["target_words"], (std::vector<std::string>{"Ein", "Hund"}));
  ASSERT_EQ(json["attention"].size(), 2u);
  for (const io::Json& row : json["attention"]) {
    ASSERT_EQ(row.size(), 3u);
    const double expected[] = {1.0 / 7, 2.0 / 7, 4.0 / 7};
    for (size_t j = 0; j < 3; ++j) EXPECT_NEAR(row[j].get<double>(), expected[j], 1e-6);
  }
}

// Against the maps themselves, where no two heads agree: their mean, for one-token words.
TEST(FormatTranslation, AttentionIsTheMeanOfAllLayersAndHeads) {
  const Translator translator(test::toy_model(), {.precision = DType::kF32});
  const Translation t = test::found(translator, "a b", {"c"});
  const AttentionMaps maps = translator.explain(t.source_ids, t.n_best[0].hypothesis.ids);
  // Tokens " ", "a", " ", "b", </s> look from " ", "c", </s>.
  ASSERT_EQ(maps.cross.shape(), (Shape{3, 2, 3, 5}));
  double first = 0, second = 0;
  for (int64_t l = 0; l < 3; ++l)
    for (int64_t h = 0; h < 2; ++h) {
      first += maps.cross.at({l, h, 1, 1});
      second += maps.cross.at({l, h, 1, 3});
    }
  const io::Json json =
      io::parse_json(format_translation(translator, "a b", t, {.align = true, .json = true}), "line");
  EXPECT_NEAR(json["attention"][0][0].get<double>(), first / (first + second), 1e-5);
  EXPECT_EQ(json["alignment"], first >= second ? "0-0" : "1-0");
}

TEST(FormatTranslation, ATerminalGetsAPictureInsteadOfPairs) {
  const std::string out = shown({"Ein Hund."}, {.align = true, .draw = true});
  EXPECT_EQ(out.substr(0, 11), "Ein Hund.\n\n");
  EXPECT_EQ(out.find("|||"), std::string::npos);
  for (const char* word : {"cccc", "bb", "Ein", "Hund"})
    EXPECT_NE(out.find(word, 11), std::string::npos) << word << "\n" << out;
  EXPECT_EQ(shown({"Ein Hund"}, {.draw = true}), "Ein Hund\n") << "only where asked for";
}

TEST(FormatTranslation, OnlyATerminalGetsColours) {
  ::setenv("TERM", "xterm", 1);
  ::unsetenv("NO_COLOR");
  EXPECT_EQ(shown({"Ein Hund."}, {.align = true, .draw = true}).find('\x1b'), std::string::npos);
  EXPECT_NE(shown({"Ein Hund."}, {.align = true, .draw = true, .color = true}).find('\x1b'),
            std::string::npos);
}

// A model may write anything. A pipe gets it as it is; a terminal's cursor stays where it is.
TEST(FormatTranslation, ATerminalGetsNothingThatControlsIt) {
  const std::string text = "Ein\x1b[2J\u009B31m Hund";
  EXPECT_EQ(shown({text}, {}), text + "\n");
  EXPECT_EQ(shown({text}, {.printable = true}), "Ein\uFFFD[2J\uFFFD31m Hund\n");
  EXPECT_EQ(shown({text, text}, {.n_best = 2, .printable = true}),
            "Ein\uFFFD[2J\uFFFD31m Hund ||| -0.2500\nEin\uFFFD[2J\uFFFD31m Hund ||| -0.5000\n\n");
  const std::string line = shown({text}, {.json = true, .printable = true});
  EXPECT_EQ(io::parse_json(line, "line")["translation"], "Ein\x1b[2J\uFFFD31m Hund");
  EXPECT_EQ(line.find('\x1b'), std::string::npos);
}

TEST(FormatTranslation, ALineThatWasCutHasNoAlignment) {
  Translation t = test::found(even(), kSource, {"Ein Hund"});
  t.was_cut = true;
  EXPECT_EQ(format_translation(even(), kSource, t, {.align = true}), "Ein Hund\n");
  EXPECT_FALSE(io::parse_json(format_translation(even(), kSource, t, {.align = true, .json = true}), "line")
                   .contains("alignment"));
}

TEST(NewPage, NamesTheModelAndNotWhereItLies) {
  for (const char* path : {"/home/someone/runs/my-model", "/home/someone/runs/my-model/"}) {
    const explain::AttentionPage page = new_page(even(), path);
    EXPECT_EQ(page.model.find("/"), std::string::npos);
    EXPECT_EQ(page.model.substr(0, 43), "my-model: 2 + 3 layers, 2 heads, d_model 16");
    EXPECT_TRUE(page.sentences.empty());
  }
}

std::string line_of(const std::vector<explain::PageToken>& tokens) {
  std::string out;
  for (const explain::PageToken& t : tokens)
    out += (t.joined || out.empty() ? "" : " ") + (t.special ? "[" + t.text + "]" : t.text);
  return out;
}

TEST(AddToPage, ShowsAllThreeAttentions) {
  const Translator translator(test::toy_model(), {.precision = DType::kF32});
  const Translation t = test::found(translator, "ab c", {"d ef"});
  explain::AttentionPage page = new_page(translator, "toy");
  ASSERT_EQ(add_to_page(page, translator, "ab c", t), OnPage::kYes);
  ASSERT_EQ(page.sentences.size(), 1u);
  EXPECT_EQ(page.sentences[0].title, "ab c");
  const auto& views = page.sentences[0].views;
  ASSERT_EQ(views.size(), 3u);
  const AttentionMaps maps = translator.explain(t.source_ids, t.n_best[0].hypothesis.ids);
  const std::string source = "ab c [</s>]", target = "d ef [</s>]";
  struct {
    std::string name, rows, columns;
    Tensor weights;
  } expected[] = {{"Translation looks at source", target, source, maps.cross},
                  {"Source looks at itself", source, source, maps.encoder},
                  {"Translation looks at itself", target, "[start] d ef", maps.decoder}};
  for (size_t v = 0; v < 3; ++v) {
    EXPECT_EQ(views[v].name, expected[v].name);
    EXPECT_EQ(line_of(views[v].rows), expected[v].rows) << views[v].name;
    EXPECT_EQ(line_of(views[v].columns), expected[v].columns) << views[v].name;
    EXPECT_EQ(views[v].weights.values(), expected[v].weights.values()) << views[v].name;
    EXPECT_FALSE(views[v].about.empty());
  }
  EXPECT_NE(explain::attention_page(page).find("Source looks at itself"), std::string::npos);
}

TEST(AddToPage, LeavesOutWhatItCannotShow) {
  explain::AttentionPage page = new_page(even(), "toy");
  EXPECT_EQ(add_to_page(page, even(), "", {}), OnPage::kNothing);
  Translation cut = test::found(even(), kSource, {"Ein"});
  cut.was_cut = true;
  EXPECT_EQ(add_to_page(page, even(), kSource, cut), OnPage::kCut);
  const Translation t = test::found(even(), "a", {"b"});
  for (int i = 0; i < 100; ++i) EXPECT_EQ(add_to_page(page, even(), "a", t), OnPage::kYes);
  EXPECT_EQ(add_to_page(page, even(), "a", t), OnPage::kFull) << "the 101st";
  EXPECT_EQ(page.sentences.size(), 100u);

  explain::AttentionPage full = new_page(even(), "toy");
  full.sentences.push_back(
      {.title = "large",
       .views = {{.weights = Tensor::empty({1, 1, 1, explain::kMostPageWeights - 5}, DType::kF32)}}});
  EXPECT_EQ(add_to_page(full, even(), "a", t), OnPage::kFull) << "more weights than a page holds";
}

}  // namespace
}  // namespace qkv::cli
