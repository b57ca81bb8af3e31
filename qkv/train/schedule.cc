#include "qkv/train/schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

#include "qkv/base/error.h"
#include "qkv/base/nearest.h"

namespace qkv {
namespace {

constexpr std::array<std::pair<ScheduleKind, std::string_view>, 6> kKinds = {{
    {ScheduleKind::kInverseSqrt, "inverse_sqrt"},
    {ScheduleKind::kCosine, "cosine"},
    {ScheduleKind::kLinear, "linear"},
    {ScheduleKind::kConstant, "constant"},
    {ScheduleKind::kOneCycle, "one_cycle"},
    {ScheduleKind::kWarmupStableDecay, "warmup_stable_decay"},
}};

constexpr double kFirstOfCycle = 1.0 / 25;  // of the peak

// How far t is on its way from begin to end.
double share(double t, double begin, double end) {
  return std::clamp((t - begin) / std::max(1.0, end - begin), 0.0, 1.0);
}

double between(double from, double to, double share) { return to + (from - to) * (1 - share); }

}  // namespace

ScheduleKind schedule_from_name(std::string_view text) {
  std::vector<std::string_view> names;
  for (const auto& [kind, name] : kKinds) names.push_back(name);
  check_known("schedule", text, names, "schedule");
  return std::find_if(kKinds.begin(), kKinds.end(), [&](const auto& k) { return k.second == text; })->first;
}

std::string_view name(ScheduleKind kind) {
  return std::find_if(kKinds.begin(), kKinds.end(), [&](const auto& k) { return k.first == kind; })->second;
}

DecayShape decay_shape_from_name(std::string_view text) {
  check_known("shape", text, {"linear", "one_minus_sqrt"}, "decay_shape");
  return text == "linear" ? DecayShape::kLinear : DecayShape::kOneMinusSqrt;
}

void Schedule::check() const {
  QKV_CHECK(
      peak > 0 && floor >= 0 && floor <= peak && warmup_steps >= 0, kValue,
      "schedule: the learning rate ({}) needs to be positive, min_lr ({}) between 0 and it, warmup ({}) "
      "not negative",
      peak, floor, warmup_steps);
  if (kind == ScheduleKind::kInverseSqrt || kind == ScheduleKind::kConstant) return;
  QKV_CHECK(max_steps > 0, kValue, "schedule: {} needs to know where it ends: set max_steps", name(kind));
  QKV_CHECK(kind != ScheduleKind::kOneCycle || (warmup_steps > 0 && 2 * warmup_steps <= max_steps), kValue,
            "schedule: one_cycle rises for warmup steps ({}) and falls for as many: twice that needs to be "
            "above 0 and at most max_steps ({})",
            warmup_steps, max_steps);
  QKV_CHECK(kind != ScheduleKind::kWarmupStableDecay || (decay_share > 0 && decay_share <= 1), kValue,
            "schedule: decay_share is {}, needs to be above 0 and at most 1", decay_share);
}

double Schedule::rate(int64_t step) const {
  const double t = static_cast<double>(step),
               warmup = static_cast<double>(std::max<int64_t>(1, warmup_steps)),
               end = static_cast<double>(max_steps);
  if (kind == ScheduleKind::kOneCycle) {
    const double first = std::max(floor, kFirstOfCycle * peak);
    if (t <= warmup) return between(first, peak, share(t, 0, warmup));
    if (t <= 2 * warmup) return between(peak, first, share(t, warmup, 2 * warmup));
    return between(first, floor, share(t, 2 * warmup, end));
  }
  if (step < warmup_steps) return peak * t / warmup;
  const double done = share(t, static_cast<double>(warmup_steps), end);
  switch (kind) {
    case ScheduleKind::kInverseSqrt:
      return peak * std::sqrt(warmup / t);
    case ScheduleKind::kCosine:
      return floor + (peak - floor) * 0.5 * (1 + std::cos(std::numbers::pi * done));
    case ScheduleKind::kLinear:
      return floor + (peak - floor) * (1 - done);
    case ScheduleKind::kWarmupStableDecay: {
      const double fallen = share(t, end * (1 - decay_share), end);
      return between(peak, floor, decay_shape == DecayShape::kLinear ? fallen : std::sqrt(fallen));
    }
    default:
      return peak;
  }
}

}  // namespace qkv
