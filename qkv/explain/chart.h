#pragma once
// Line and bar charts as SVG, for what is measured: one file, no script, right on light and dark screens.

#include <span>
#include <string>
#include <variant>
#include <vector>

namespace qkv::explain {

enum class AxisScale { kLinear, kLog2, kLog10 };

struct ChartAxis {
  std::string title;  // with its unit: "time, ms"
  AxisScale scale = AxisScale::kLinear;
};

struct ChartSeries {
  std::string name;
  std::vector<double> x, y;  // of equal length, in the order to be joined
  bool dashed = false;       // a bound or something to compare with, rather than a measurement
};

struct LineChart {
  std::string title;
  std::string about;  // a sentence for readers who hear the page instead of seeing it
  ChartAxis x, y;
  std::vector<ChartSeries> series;
};

/// Horizontal bars from 0, to the left for what is below it.
struct BarChart {
  std::string title, about;
  std::string value_title;  // with its unit
  std::vector<std::string> labels;
  std::vector<double> values;  // one a label
};

using Chart = std::variant<LineChart, BarChart>;

/// The charts, `columns` of them side by side, as one SVG document.
///
/// Lines are told apart by colour (Okabe and Ito's, which colour-blind readers tell apart too), by the shape
/// of their marks and by their names, which stand where they end. Every mark tells its numbers to a mouse
/// that rests on it. Ticks are round numbers. Points that are not finite, or not above 0 on a logarithmic
/// axis, are left out and the line is broken there; a chart without any says "no data". Texts may hold
/// anything: what is not printable is replaced (words.h), the rest escaped.
///
/// Error kShape: x and y, or labels and values, differ in number; kValue: no chart, columns below 1.
std::string svg(std::span<const Chart> charts, int columns = 1);

}  // namespace qkv::explain
