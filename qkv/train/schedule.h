#pragma once
// Learning rate as a function of the step.

#include <cstdint>
#include <string>
#include <string_view>

namespace qkv {

enum class ScheduleKind {
  kInverseSqrt,  // peak * sqrt(warmup / step): Vaswani et al. 2017, section 5.3, scaled so that the peak is
                 // `peak`
  kCosine,       // from peak down to floor along half a cosine, at max_steps (Loshchilov and Hutter 2017, no
                 // restarts)
  kLinear,       // from peak down to floor in a straight line, at max_steps
  kConstant,
};
ScheduleKind schedule_from_name(
    std::string_view name);  // inverse_sqrt, cosine, linear, constant; Error kValue
std::string_view name(ScheduleKind kind);

struct Schedule {
  ScheduleKind kind = ScheduleKind::kInverseSqrt;
  double peak = 5e-4;
  double floor = 0;             // cosine and linear end here
  int64_t warmup_steps = 4000;  // rises in a straight line from peak / warmup_steps
  int64_t max_steps = 0;        // for cosine and linear; 0 is an Error kValue there

  /// Learning rate of step 1, 2, ...
  double rate(int64_t step) const;
};

}  // namespace qkv
