#include "qkv/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "qkv/base/error.h"

namespace qkv {

ScheduleKind schedule_from_name(std::string_view text) {
  for (ScheduleKind kind :
       {ScheduleKind::kInverseSqrt, ScheduleKind::kCosine, ScheduleKind::kLinear, ScheduleKind::kConstant})
    if (name(kind) == text) return kind;
  throw_error(ErrorCode::kValue, "schedule: '{}' is not one of inverse_sqrt, cosine, linear, constant", text);
}

std::string_view name(ScheduleKind kind) {
  switch (kind) {
    case ScheduleKind::kInverseSqrt:
      return "inverse_sqrt";
    case ScheduleKind::kCosine:
      return "cosine";
    case ScheduleKind::kLinear:
      return "linear";
    case ScheduleKind::kConstant:
      return "constant";
  }
  return "?";
}

double Schedule::rate(int64_t step) const {
  const double warmup = static_cast<double>(std::max<int64_t>(1, warmup_steps)),
               t = static_cast<double>(step);
  if (step < warmup_steps) return peak * t / warmup;
  switch (kind) {
    case ScheduleKind::kInverseSqrt:
      return peak * std::sqrt(warmup / t);
    case ScheduleKind::kConstant:
      return peak;
    case ScheduleKind::kCosine:
    case ScheduleKind::kLinear: {
      QKV_CHECK(max_steps > 0, kValue, "schedule: {} needs to know where it ends: set max_steps", name(kind));
      const double span = static_cast<double>(std::max<int64_t>(1, max_steps - warmup_steps));
      const double done = std::clamp((t - static_cast<double>(warmup_steps)) / span, 0.0, 1.0);
      const double left =
          kind == ScheduleKind::kLinear ? 1 - done : 0.5 * (1 + std::cos(std::numbers::pi * done));
      return floor + (peak - floor) * left;
    }
  }
  return peak;
}

}  // namespace qkv
