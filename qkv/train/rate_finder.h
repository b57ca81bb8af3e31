#pragma once
// The learning rate range test: where does a run begin to learn, and where does it break?

#include <vector>

#include "qkv/train/trainer.h"

namespace qkv {

struct RateFinderOptions {
  double lowest = 1e-7, highest = 1;  // above 0, and above that
  int64_t steps = 200;                // at least 2
};

struct RateProbe {
  double rate = 0;
  double loss = 0;      // of this step, per token
  double smoothed = 0;  // mean of those so far, newer ones weighing more: 0.95 stays at a step, corrected
};

struct RateRange {
  std::vector<RateProbe> probes;
  double least = 0;      // the rate at which the smoothed loss was least
  double suggested = 0;  // a tenth of it: the loss still falls there, and well before it breaks
  bool broke = false;    // ended early: the loss rose to 4 times its least, or was not finite
};

/// Smith, "Cyclical Learning Rates for Training Neural Networks" (2017), arXiv:1506.01186, section 3.3, with
/// a rate that grows by a constant factor: trains from the trainee's present weights on the batches of epoch
/// 0 on, with the optimizer, seed, dtype and accumulation of `options`, and writes nothing. The trainee's
/// weights are spent. Stopped by options.stop, it returns what it has. Error kValue: options.
RateRange find_rate(Trainee& trainee, const TrainOptions& options, const RateFinderOptions& range);

}  // namespace qkv
