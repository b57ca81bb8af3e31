#include "qkv/explain/attention_page.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "qkv/io/json.h"
#include "qkv/io/sha256.h"

namespace qkv::explain {
namespace {

AttentionPage page_of(std::vector<PageToken> rows, std::vector<PageToken> columns, const Tensor& weights) {
  return {.title = "A title",
          .model = "a model",
          .sentences = {{.title = "one",
                         .views = {{.name = "Translation looks at source",
                                    .about = "Who looks where.",
                                    .rows_name = "Translation",
                                    .columns_name = "Source",
                                    .rows = std::move(rows),
                                    .columns = std::move(columns),
                                    .weights = weights}}}}};
}

std::string between(const std::string& text, const std::string& open, const std::string& close) {
  const size_t begin = text.find(open) + open.size();
  return text.substr(begin, text.find(close, begin) - begin);
}

io::Json data_of(const std::string& page) {
  return io::parse_json(between(page, "<script type=\"application/json\" id=\"data\">", "</script>"),
                        "the page");
}

int64_t count(const std::string& text, const std::string& what) {
  int64_t n = 0;
  for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + 1)) ++n;
  return n;
}

TEST(AttentionPage, CarriesItsWordsAndWeights) {
  const std::string page =
      attention_page(page_of({{"Hund"}, {"e", true}}, {{"dog"}, {"</s>", false, true}, {"x"}},
                             Tensor::from({1, 1, 2, 3}, {0, 1, 0.5, 2, -1, NAN})));
  const io::Json data = data_of(page), view = data["sentences"][0]["views"][0];
  EXPECT_EQ(data["title"], "A title");
  EXPECT_EQ(view["rows"][1]["text"], "e");
  EXPECT_EQ(view["rows"][1]["joined"], true);
  EXPECT_EQ(view["columns"][1]["special"], true);
  EXPECT_EQ(view["layers"], 1);
  EXPECT_EQ(view["heads"], 1);
  EXPECT_EQ(view["about"], "Who looks where.");
  // Of 4095: 0, 4095, 2048 (which is 32 * 64), then 4095 (2 is more than all), 0 (less than nothing), 0
  // (NaN).
  EXPECT_EQ(view["weights"], "AA//gA//AAAA");
}

TEST(AttentionPage, HostileTextStaysText) {
  const std::string evil = "</script><img src=x onerror=alert(1)><!--<script>&amp;\u2028";
  AttentionPage hostile = page_of({{evil}}, {{evil + "\xff"}}, Tensor::from({1, 1, 1, 1}, {1}));
  hostile.title = hostile.model = hostile.sentences[0].title = hostile.sentences[0].views[0].name = evil;
  const AttentionPage tame = page_of({{"a"}}, {{"b"}}, Tensor::from({1, 1, 1, 1}, {1}));
  const std::string page = attention_page(hostile), plain = attention_page(tame);
  EXPECT_EQ(page.find("<img"), std::string::npos);
  EXPECT_EQ(page.find("onerror=alert(1)>"), std::string::npos);
  EXPECT_EQ(page.find("\u2028"), std::string::npos);
  for (const char* mark : {"<", ">", "</script", "<!--"})
    EXPECT_EQ(count(page, mark), count(plain, mark)) << mark;
  EXPECT_EQ(data_of(page)["title"], evil);  // and comes out as it went in
  EXPECT_EQ(data_of(page)["sentences"][0]["views"][0]["columns"][0]["text"], evil + "\uFFFD");
}

TEST(AttentionPage, LoadsNothingAndAllowsItsOwnScriptAlone) {
  const std::string page = attention_page(page_of({{"a"}}, {{"b"}}, Tensor::from({1, 1, 1, 1}, {1})));
  EXPECT_EQ(count(page, "{{"), 0);
  EXPECT_NE(page.find("default-src 'none'; script-src 'sha256-"), std::string::npos);
  EXPECT_EQ(page.find("unsafe"), std::string::npos);
  for (const char* outside :
       {"http:", "https:", "src=", "href=", "@import", "url(", "innerHTML", "onclick=", " style="})
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
}

// base64 to hex digits.
std::string hex_of(const std::string& base64) {
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bits, out;
  for (const char c : base64)
    if (c != '=')
      for (int k = 5; k >= 0; --k) bits += digits.find(c) >> k & 1 ? '1' : '0';
  for (size_t i = 0; i + 8 <= bits.size(); i += 4) {
    out += "0123456789abcdef"[std::stoi(bits.substr(i, 4), nullptr, 2)];
    i += 4;
    out += "0123456789abcdef"[std::stoi(bits.substr(i, 4), nullptr, 2)];
  }
  return out;
}

// What a browser does before it runs an inline script: hash what stands between the tags, look it up in the
// policy.
TEST(AttentionPage, NamesItsScriptAndStyleByTheHashesThatABrowserComputes) {
  const std::string page = attention_page(page_of({{"a"}}, {{"b"}}, Tensor::from({1, 1, 1, 1}, {1})));
  EXPECT_EQ(hex_of(between(page, "script-src 'sha256-", "'")),
            io::sha256_hex(between(page, "<script>", "</script>")));
  EXPECT_EQ(hex_of(between(page, "style-src 'sha256-", "'")),
            io::sha256_hex(between(page, "<style>", "</style>")));
}

// 3 decimals would be six bytes each.
TEST(AttentionPage, GrowsByTwoBytesAWeight) {
  std::vector<PageToken> tokens(20, {.text = "word"});
  const auto size = [&](int64_t layers) {
    return static_cast<int64_t>(
        attention_page(page_of(tokens, tokens, Tensor::full({layers, 8, 20, 20}, DType::kF32, 0.05))).size());
  };
  EXPECT_EQ(size(6) - size(1), 2 * 5 * 8 * 20 * 20);
  EXPECT_LT(size(1), 64 * 1024);
}

// Each kind of attention has rows and columns of its own, however many there are.
TEST(AttentionPage, ASentenceHasSeveralViews) {
  AttentionPage page = page_of({{"a"}}, {{"b"}, {"c"}}, Tensor::from({1, 1, 1, 2}, {1, 0}));
  page.sentences[0].views.push_back({.name = "Source looks at itself",
                                     .rows = {{"b"}, {"c"}},
                                     .columns = {{"b"}, {"c"}},
                                     .weights = Tensor::from({1, 1, 2, 2}, {0, 1, 1, 0})});
  const io::Json views = data_of(attention_page(page))["sentences"][0]["views"];
  ASSERT_EQ(views.size(), 2u);
  EXPECT_EQ(views[0]["weights"], "//AA");
  EXPECT_EQ(views[1]["name"], "Source looks at itself");
  EXPECT_EQ(views[1]["about"], "");
  EXPECT_EQ(views[1]["weights"], "AA////AA");
  EXPECT_EQ(views[1]["rows"][1]["text"], "c");
}

TEST(AttentionPage, RefusesWhatItCannotShow) {
  const std::vector<PageToken> two = {{"a"}, {"b"}};
  EXPECT_THROW(attention_page({}), Error);
  EXPECT_THROW(attention_page({.sentences = {{.title = "empty"}}}), Error);
  EXPECT_THROW(attention_page(page_of(two, two, Tensor::zeros({1, 1, 2, 3}, DType::kF32))), Error);
  EXPECT_THROW(attention_page(page_of(two, two, Tensor::zeros({1, 0, 2, 2}, DType::kF32))), Error);
  EXPECT_THROW(attention_page(page_of(two, two, Tensor())), Error);
  EXPECT_THROW(attention_page(page_of(two, two, Tensor::zeros({1, 1, 2, 2}, DType::kF64))), Error);
}

}  // namespace
}  // namespace qkv::explain
