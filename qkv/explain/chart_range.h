#pragma once
// Values on the axis of a chart, and round numbers for its ticks.

#include <algorithm>
#include <cmath>
#include <vector>

#include "qkv/explain/chart.h"

namespace qkv::explain {

/// Where a value lies on an axis that has no size yet. Beyond 1e300 differences overflow.
inline double mapped(AxisScale scale, double v) {
  return scale == AxisScale::kLinear ? v : scale == AxisScale::kLog2 ? std::log2(v) : std::log10(v);
}
inline bool can_be_shown(AxisScale scale, double v) { return std::abs(mapped(scale, v)) <= 1e300; }

/// The values of an axis, widened to round numbers, and where its ticks stand: all as mapped.
struct Range {
  AxisScale scale;
  double low, high;
  std::vector<double> ticks;

  Range(AxisScale s, const std::vector<double>& values, int most_ticks) : scale(s) {
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    low = mapped(scale, *least), high = mapped(scale, *most);
    const double size = std::max(std::abs(low), std::abs(high));
    if (high - low <= 1e-9 * size) {  // one value
      const double margin = scale == AxisScale::kLinear && size > 1e-300 ? size / 2 : 1;
      low -= margin, high += margin;
    }
    const double magnitude = std::pow(10, std::floor(std::log10((high - low) / most_ticks)));
    double step = magnitude;
    for (const double factor : {2, 5, 10})
      if ((high - low) / step > most_ticks) step = factor * magnitude;
    if (scale != AxisScale::kLinear) step = std::max(1.0, std::ceil(step));
    low = std::floor(low / step + 1e-9) * step;
    high = std::ceil(high / step - 1e-9) * step;
    const auto n = static_cast<int>(std::lround((high - low) / step));
    for (int i = 0; i <= n; ++i) ticks.push_back(low + i * step);
  }

  double value(double tick) const {
    if (scale == AxisScale::kLinear) return std::abs(tick) < 1e-9 * (high - low) ? 0 : tick;
    return std::pow(scale == AxisScale::kLog2 ? 2 : 10, tick);
  }
  /// 0 at the low end, 1 at the high.
  double part(double v) const { return (mapped(scale, v) - low) / (high - low); }
};

}  // namespace qkv::explain
