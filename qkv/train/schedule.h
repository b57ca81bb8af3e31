#pragma once
// Learning rate as a function of the step.

#include <cstdint>
#include <string>
#include <string_view>

namespace qkv {

/// All but one_cycle rise in a straight line for warmup_steps first: peak * step / warmup_steps.
enum class ScheduleKind {
  kInverseSqrt,  // peak * sqrt(warmup / step): Vaswani et al. 2017, section 5.3, scaled so that the peak is
                 // `peak`
  kCosine,       // from peak down to floor along half a cosine, at max_steps (Loshchilov and Hutter 2017, no
                 // restarts)
  kLinear,       // from peak down to floor in a straight line, at max_steps
  kConstant,
  kOneCycle,  // from peak / 25 up to peak in warmup_steps, down again in as many, then on to floor at
              // max_steps, in straight lines: Smith 2018, arXiv:1803.09820, section 4
  kWarmupStableDecay,  // peak, but for the last decay_share of max_steps, which fall to floor: Hu et al.
                       // 2024 (MiniCPM), arXiv:2404.06395, section 4
};
/// inverse_sqrt, cosine, linear, constant, one_cycle, warmup_stable_decay. Error kValue with the nearest.
ScheduleKind schedule_from_name(std::string_view name);
std::string_view name(ScheduleKind kind);

/// How warmup_stable_decay falls: what is left of peak - floor when the share x of the fall is done.
enum class DecayShape {
  kLinear,        // 1 - x
  kOneMinusSqrt,  // 1 - sqrt(x): Haegele et al. 2024, arXiv:2405.18392, section 4
};
DecayShape decay_shape_from_name(std::string_view name);  // linear, one_minus_sqrt; Error kValue

struct Schedule {
  ScheduleKind kind = ScheduleKind::kInverseSqrt;
  double peak = 5e-4;
  double floor = 0;             // what falls by max_steps ends here
  int64_t warmup_steps = 4000;  // rises in a straight line from peak / warmup_steps
  int64_t max_steps = 0;        // for all but inverse_sqrt and constant
  double decay_share = 0.1;     // of max_steps, for warmup_stable_decay; in (0, 1]
  DecayShape decay_shape = DecayShape::kLinear;

  /// Learning rate of step 1, 2, ...
  double rate(int64_t step) const;
  /// Error kValue: numbers out of their range, or phases that do not fit into max_steps.
  void check() const;
};

}  // namespace qkv
