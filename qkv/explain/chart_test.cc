#include "qkv/explain/chart.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "qkv/base/testing.h"

namespace qkv::explain {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::string one(const Chart& chart) { return svg(std::span(&chart, 1)); }
LineChart line(std::vector<double> x, std::vector<double> y) {
  return {.title = "t",
          .about = "",
          .x = {"length"},
          .y = {"time, ms"},
          .series = {{"s", std::move(x), std::move(y)}}};
}
int64_t count(const std::string& text, const std::string& what) {
  int64_t n = 0;
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++n;
  return n;
}
bool has(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }

// Enough of a parser for what is written here: tags nest and close, attributes are quoted, nothing is bare.
void expect_well_formed(const std::string& xml) {
  std::vector<std::string> open;
  bool root = false;
  for (size_t at = 0; at < xml.size();) {
    if (xml[at] != '<') {
      ASSERT_NE(xml[at], '\0');
      if (xml[at] == '&') {
        const std::string entity = xml.substr(at, xml.find(';', at) - at + 1);
        ASSERT_TRUE(entity == "&amp;" || entity == "&lt;" || entity == "&gt;" || entity == "&quot;")
            << entity;
      }
      ASSERT_TRUE(!open.empty() || xml[at] == '\n') << "text outside of the root at " << at;
      ++at;
      continue;
    }
    const size_t end = xml.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = xml.substr(at + 1, end - at - 1);
    ASSERT_FALSE(has(tag, "<")) << tag;
    ASSERT_EQ(count(tag, "'") % 2, 0) << tag;
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag[0] == '/') {
      ASSERT_FALSE(open.empty());
      ASSERT_EQ(open.back(), tag.substr(1));
      open.pop_back();
    } else if (tag.back() != '/') {
      ASSERT_FALSE(open.empty() && root) << "two roots";
      root = true;
      open.push_back(name);
    }
    at = end + 1;
  }
  ASSERT_TRUE(open.empty()) << open.back();
}

TEST(Chart, IsOneWellFormedDocumentWithATitleForEachChart) {
  const std::vector<Chart> charts = {line({1, 2, 3}, {3, 1, 2}), BarChart{.title = "bars",
                                                                          .about = "which matter",
                                                                          .value_title = "loss",
                                                                          .labels = {"a", "b"},
                                                                          .values = {1, -2}}};
  const std::string both = svg(charts, 2);
  expect_well_formed(both);
  EXPECT_TRUE(has(both, "<title>t; bars</title>"));
  EXPECT_TRUE(has(both, "<desc>which matter</desc>"));
  EXPECT_TRUE(has(both, "viewBox='0 0 1240 400'"));
  EXPECT_TRUE(has(both, "prefers-color-scheme: dark"));
  EXPECT_FALSE(has(both, "<script"));
}

TEST(Chart, EscapesWhateverTextsHold) {
  LineChart chart = line({1}, {1});
  const std::string bad = "</text><script>\"&'\x1b\xff";
  chart.title = chart.about = chart.x.title = chart.y.title = chart.series[0].name = bad;
  const std::string out = one(chart);
  expect_well_formed(out);
  EXPECT_FALSE(has(out, "<script"));
  EXPECT_FALSE(has(out, "\x1b"));
  EXPECT_TRUE(has(out, "&lt;/text&gt;&lt;script&gt;&quot;&amp;'\xEF\xBF\xBD\xEF\xBF\xBD"));
  const std::string bars =
      one(BarChart{.title = bad, .about = bad, .value_title = bad, .labels = {bad}, .values = {1}});
  expect_well_formed(bars);
  EXPECT_FALSE(has(bars, "<script"));
}

TEST(Chart, PutsTicksAtRoundNumbers) {
  LineChart chart = line({128, 256, 512, 1024, 2048, 4096, 8192}, {0.03, 0.1, 0.4, 1.5, 6, 24, 96});
  chart.x.scale = AxisScale::kLog2;
  chart.y.scale = AxisScale::kLog10;
  const std::string out = one(chart);
  for (const char* tick : {">128<", ">512<", ">8192<", ">0.01<", ">0.1<", ">1<", ">100<"})
    EXPECT_TRUE(has(out, tick)) << tick;
  const std::string linear = one(line({0, 0.7}, {-0.11, 0.3}));
  for (const char* tick : {">0.1<", ">0.3<", ">-0.1<", ">0<"}) EXPECT_TRUE(has(linear, tick)) << tick;
}

TEST(Chart, LeavesOutWhatIsNotANumberAndBreaksTheLineThere) {
  const std::string out = one(line({1, 2, 3, 4, kInfinity}, {1, kNan, 3, 4, 5}));
  expect_well_formed(out);
  EXPECT_EQ(count(out, "<circle"), 3);
  EXPECT_FALSE(has(out, "nan"));
  EXPECT_FALSE(has(out, "inf"));
  const size_t at = out.find("class='l' d='");
  EXPECT_EQ(count(out.substr(at, out.find("'/>", at) - at), "M"), 2);
  LineChart logs = line({1, 2, 3}, {0, -1, 3});
  logs.y.scale = AxisScale::kLog10;
  EXPECT_EQ(count(one(logs), "<circle"), 1);
  EXPECT_EQ(
      count(one(BarChart{
                .title = "", .about = "", .value_title = "", .labels = {"a", "b"}, .values = {kNan, 1}}),
            "<rect class='m'"),
      1);
}

TEST(Chart, ShowsOnePointAndSaysThatThereIsNone) {
  for (const double v : {0.0, 1.0, -1e-30, 1e300, -1e308, 5e-324}) {
    const std::string out = one(line({v}, {v}));
    expect_well_formed(out);
    EXPECT_EQ(count(out, "<circle"), std::abs(v) <= 1e300 ? 1 : 0) << v;
    EXPECT_FALSE(has(out, "nan")) << v;
    EXPECT_FALSE(has(out, "inf")) << v;
  }
  LineChart empty = line({}, {});
  EXPECT_TRUE(has(one(empty), ">no data<"));
  empty.series.clear();
  EXPECT_TRUE(has(one(empty), ">no data<"));
  EXPECT_TRUE(has(one(BarChart{}), ">no data<"));
}

TEST(Chart, KeepsNamesApart) {
  LineChart chart = line({1, 2}, {1, 1});
  chart.series.push_back({"other", {1, 2}, {1, 1}});
  const std::string out = one(chart);
  std::vector<double> places;
  for (size_t at = 0; (at = out.find("text-anchor='start' class='n'", at)) != std::string::npos; ++at) {
    const size_t y = out.rfind("y='", at);
    places.push_back(std::stod(out.substr(y + 3)));
  }
  ASSERT_EQ(places.size(), 2u);
  EXPECT_GE(std::abs(places[1] - places[0]), 15);
}

TEST(Chart, SaysWhatDoesNotFit) {
  EXPECT_ERROR(kShape, "series 's' has 1 x and 2 y", one(line({1}, {1, 2})));
  const BarChart bars{.title = "", .about = "", .value_title = "", .labels = {"a"}, .values = {}};
  EXPECT_ERROR(kShape, "1 labels and 0 values", one(bars));
  EXPECT_ERROR(kValue, "0 charts", svg({}));
}

}  // namespace
}  // namespace qkv::explain
