#include "qkv/explain/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <optional>
#include <utility>

#include "qkv/base/error.h"
#include "qkv/explain/chart_range.h"
#include "qkv/explain/embed.h"
#include "qkv/explain/words.h"

QKV_EMBED(qkv_chart_css, "qkv/explain/chart.css");

namespace qkv::explain {
namespace {

constexpr double kWidth = 620, kLineHeight = 400, kBarHeight = 17;
constexpr double kTop = 44, kBottom = 54;  // title; ticks and axis title
constexpr double kCharacter = 6.7;         // of 12px sans-serif, a little more than the mean
constexpr double kLabelStep = 16;
constexpr int64_t kMostLabel = 26;      // characters of a name
constexpr int kColors = 8, kQuiet = 8;  // of chart.css; the quiet one is for dashed lines

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : printable(text)) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

std::string label(std::string_view text) { return escaped(fitted(printable(text), kMostLabel)); }
double label_width(std::string_view text) {
  return kCharacter * static_cast<double>(std::min(display_width(printable(text)), kMostLabel));
}

std::string number(double v) {
  return std::abs(v) >= 1e6 ? fmt::format("{:.4g}M", v / 1e6) : fmt::format("{:.5g}", v);
}

std::string mark(int shape, double x, double y) {
  switch (shape % 4) {
    case 0:
      return fmt::format("<circle class='m' cx='{:.1f}' cy='{:.1f}' r='3.5'>", x, y);
    case 1:
      return fmt::format("<rect class='m' x='{:.1f}' y='{:.1f}' width='7' height='7'>", x - 3.5, y - 3.5);
    case 2:
      return fmt::format("<path class='m' d='M{:.1f} {:.1f}l4.5 8h-9z'>", x, y - 5);
    default:
      return fmt::format("<path class='m' d='M{:.1f} {:.1f}l4.5 4.5-4.5 4.5-4.5-4.5z'>", x, y - 4.5);
  }
}
const char* mark_end(int shape) {
  return shape % 4 == 0 ? "</circle>" : shape % 4 == 1 ? "</rect>" : "</path>";
}

void text(std::string& out, double x, double y, const char* anchor, std::string_view escaped_text,
          const char* attributes = "") {
  out += fmt::format("<text x='{:.1f}' y='{:.1f}' text-anchor='{}'{}>{}</text>\n", x, y, anchor, attributes,
                     escaped_text);
}

// The part of the chart where data are.
struct Plot {
  double left, right, top, bottom;
  double x(const Range& range, double v) const { return left + range.part(v) * (right - left); }
  double y(const Range& range, double v) const { return bottom - range.part(v) * (bottom - top); }
  void x_ticks(std::string& out, const Range& range, std::string_view title) const {
    for (const double tick : range.ticks) {
      const double at = x(range, range.value(tick));
      out += fmt::format("<path class='g' d='M{:.1f} {:.1f}V{:.1f}'/>\n", at, top, bottom);
      text(out, at, bottom + 18, "middle", number(range.value(tick)));
    }
    text(out, (left + right) / 2, bottom + 40, "middle", escaped(title));
  }
};

// Where names stand: as near to the ends of their lines as they can without covering each other.
std::vector<double> spread(const std::vector<double>& wanted, double top, double bottom) {
  std::vector<size_t> order(wanted.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return wanted[a] < wanted[b]; });
  std::vector<double> at(wanted.size());
  double next = top;
  for (const size_t i : order) next = (at[i] = std::max(wanted[i], next)) + kLabelStep;
  double last = bottom;
  for (auto i = order.rbegin(); i != order.rend(); ++i) last = (at[*i] = std::min(at[*i], last)) - kLabelStep;
  return at;
}

double height(const LineChart& c) {
  return std::max(kLineHeight, kTop + kBottom + kLabelStep * static_cast<double>(c.series.size()));
}
double height(const BarChart& c) {
  return kTop + kBottom + kBarHeight * static_cast<double>(c.labels.size());
}

void draw(std::string& out, const LineChart& c) {
  std::vector<double> xs, ys;
  double names = 0, tick_width = 0;
  const auto shown = [&](double x, double y) {
    return can_be_shown(c.x.scale, x) && can_be_shown(c.y.scale, y);
  };
  for (const ChartSeries& s : c.series) {
    QKV_CHECK(s.x.size() == s.y.size(), kShape, "chart: series '{}' has {} x and {} y", s.name, s.x.size(),
              s.y.size());
    names = std::max(names, label_width(s.name));
    for (size_t i = 0; i < s.x.size(); ++i)
      if (shown(s.x[i], s.y[i])) xs.push_back(s.x[i]), ys.push_back(s.y[i]);
  }
  const double bottom = height(c) - kBottom;
  if (xs.empty()) return text(out, kWidth / 2, (kTop + bottom) / 2, "middle", "no data");
  const Range x(c.x.scale, xs, 9), y(c.y.scale, ys, 7);
  for (const double tick : y.ticks)
    tick_width = std::max(tick_width, kCharacter * static_cast<double>(number(y.value(tick)).size()));
  const Plot plot{.left = 34 + tick_width, .right = kWidth - names - 34, .top = kTop, .bottom = bottom};
  plot.x_ticks(out, x, c.x.title);
  for (const double tick : y.ticks) {
    const double at = plot.y(y, y.value(tick));
    out += fmt::format("<path class='g' d='M{:.1f} {:.1f}H{:.1f}'/>\n", plot.left, at, plot.right);
    text(out, plot.left - 8, at + 4, "end", number(y.value(tick)));
  }
  out += fmt::format("<path class='z' d='M{:.1f} {:.1f}H{:.1f}'/>\n", plot.left, bottom, plot.right);
  text(out, 16, (kTop + bottom) / 2, "middle", escaped(c.y.title),
       fmt::format(" transform='rotate(-90 16 {:.1f})'", (kTop + bottom) / 2).c_str());

  const auto color_of = [&](int k) { return c.series[static_cast<size_t>(k)].dashed ? kQuiet : k % kColors; };
  std::vector<double> ends_x, ends_y;
  std::vector<int> ended;
  for (size_t k = 0; k < c.series.size(); ++k) {
    const ChartSeries& s = c.series[k];
    const int shape = static_cast<int>(k);
    std::string line, marks;
    std::optional<std::pair<double, double>> end;
    for (size_t i = 0; i < s.x.size(); ++i) {
      if (!shown(s.x[i], s.y[i])) continue;
      const double px = plot.x(x, s.x[i]), py = plot.y(y, s.y[i]);
      const bool joined = end && i > 0 && shown(s.x[i - 1], s.y[i - 1]);
      line += fmt::format("{}{:.1f} {:.1f}", joined ? "L" : "M", px, py);
      if (!s.dashed)
        marks += mark(shape, px, py) +
                 fmt::format("<title>{}: {}, {}</title>", escaped(s.name), number(s.x[i]), number(s.y[i])) +
                 mark_end(shape) + "\n";
      end = {px, py};
    }
    if (!end) continue;
    out += fmt::format("<g class='c{}'><path class='l{}' d='{}'/>\n{}</g>\n", color_of(shape),
                       s.dashed ? " d" : "", line, marks);
    ends_x.push_back(end->first), ends_y.push_back(end->second), ended.push_back(shape);
  }
  const std::vector<double> places = spread(ends_y, kTop, bottom);
  for (size_t i = 0; i < places.size(); ++i) {
    out += fmt::format("<g class='c{}'><path class='a' d='M{:.1f} {:.1f}L{:.1f} {:.1f}'/>",
                       color_of(ended[i]), ends_x[i] + 6, ends_y[i], plot.right + 14, places[i]);
    text(out, plot.right + 18, places[i] + 4, "start", label(c.series[static_cast<size_t>(ended[i])].name),
         " class='n'");
    out += "</g>\n";
  }
}

void draw(std::string& out, const BarChart& c) {
  QKV_CHECK(c.labels.size() == c.values.size(), kShape, "chart: {} labels and {} values", c.labels.size(),
            c.values.size());
  if (c.values.empty()) return text(out, kWidth / 2, kTop + 8, "middle", "no data");
  double names = 0;
  for (const std::string& l : c.labels) names = std::max(names, label_width(l));
  std::vector<double> values = {0};
  std::copy_if(c.values.begin(), c.values.end(), std::back_inserter(values),
               [](double v) { return can_be_shown(AxisScale::kLinear, v); });
  const Range x(AxisScale::kLinear, values, 8);
  const Plot plot{.left = 24 + names, .right = kWidth - 30, .top = kTop, .bottom = height(c) - kBottom};
  plot.x_ticks(out, x, c.value_title);
  const double zero = plot.x(x, 0);
  for (size_t i = 0; i < c.values.size(); ++i) {
    const double y = kTop + kBarHeight * static_cast<double>(i);
    text(out, plot.left - 8, y + 13, "end", label(c.labels[i]));
    if (!can_be_shown(x.scale, c.values[i])) continue;
    const double end = plot.x(x, c.values[i]);
    out += fmt::format(
        "<g class='c{}'><rect class='m' x='{:.1f}' y='{:.1f}' width='{:.1f}' height='{:.1f}'>"
        "<title>{}: {}</title></rect></g>\n",
        c.values[i] < 0 ? 1 : 0, std::min(zero, end), y + 2, std::abs(end - zero), kBarHeight - 4,
        escaped(c.labels[i]), number(c.values[i]));
  }
  out += fmt::format("<path class='z' d='M{:.1f} {:.1f}V{:.1f}'/>\n", zero, plot.top, plot.bottom);
}

}  // namespace

std::string svg(std::span<const Chart> charts, int columns) {
  QKV_CHECK(!charts.empty() && columns >= 1, kValue,
            "chart: {} charts in {} columns, needs 1 or more of both", charts.size(), columns);
  std::string out, titles;
  double top = 0, row_height = 0;
  for (size_t i = 0; i < charts.size(); ++i) {
    const auto column = static_cast<int>(i) % columns;
    if (column == 0) top += std::exchange(row_height, 0);
    std::visit(
        [&](const auto& c) {
          row_height = std::max(row_height, height(c));
          titles += (titles.empty() ? "" : "; ") + c.title;
          out +=
              fmt::format("<g role='img' transform='translate({} {})'>\n<title>{}</title>\n<desc>{}</desc>\n",
                          column * kWidth, top, escaped(c.title), escaped(c.about));
          text(out, 16, 24, "start", escaped(c.title), " class='h'");
          draw(out, c);
        },
        charts[i]);
    out += "</g>\n";
  }
  const double width = kWidth * std::min<double>(columns, static_cast<double>(charts.size()));
  return fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' class='qkv-chart' viewBox='0 0 {0} {1}' width='{0}' "
      "height='{1}'>\n<title>{2}</title>\n<style>{3}</style>\n<rect class='bg' width='{0}' "
      "height='{1}'/>\n{4}"
      "</svg>\n",
      width, top + row_height, escaped(titles), qkv_chart_css_begin, out);
}

}  // namespace qkv::explain
