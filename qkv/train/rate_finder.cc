#include "qkv/train/rate_finder.h"

#include <algorithm>
#include <cmath>

#include "qkv/train/gradients.h"

namespace qkv {
namespace {

constexpr double kStays = 0.95;     // of the smoothed loss, at a step
constexpr double kBroken = 4;       // times the least loss
constexpr double kMostNorm = 1e18;  // trainer.cc's

}  // namespace

RateRange find_rate(Trainee& trainee, const TrainOptions& options, const RateFinderOptions& range) {
  QKV_CHECK(range.lowest > 0 && range.highest > range.lowest && std::isfinite(range.highest), kValue,
            "find_rate: needs rates above 0, the lowest ({}) first and the highest ({}) after it",
            range.lowest, range.highest);
  QKV_CHECK(range.steps >= 2, kValue, "find_rate: {} steps, needs at least 2", range.steps);
  const std::unique_ptr<Optimizer> optimizer = make_optimizer(options.optimizer, trainee.parameters());
  RateRange result;
  double mean = 0, least = 0;
  int64_t epoch = 0, batch = 0, batches = trainee.begin_epoch(0), micro_step = 0;
  for (int64_t step = 0; step < range.steps && !result.broke; ++step) {
    if (options.stop != nullptr && options.stop->load()) break;
    const double done = static_cast<double>(step) / static_cast<double>(range.steps - 1);
    const double rate = range.lowest * std::pow(range.highest / range.lowest, done);
    const int64_t count = std::min(options.accumulate, batches - batch);
    const LossSums sums = accumulate_gradients(trainee, batch, count, options, micro_step);
    const double loss = sums.loss / static_cast<double>(std::max<int64_t>(1, sums.n));
    const double norm = optimizer->grad_norm();
    result.broke = !std::isfinite(loss) || !(norm < kMostNorm);
    if (result.broke) break;
    mean = kStays * mean + (1 - kStays) * loss;
    const double smoothed = mean / (1 - std::pow(kStays, static_cast<double>(step + 1)));
    result.probes.push_back({.rate = rate, .loss = loss, .smoothed = smoothed});
    if (step == 0 || smoothed < least) {
      least = smoothed;
      result.least = rate;
    }
    result.broke = smoothed > kBroken * least;
    optimizer->step(rate, norm);
    if ((batch += count) >= batches) {
      batch = 0;
      batches = trainee.begin_epoch(++epoch);
    }
  }
  result.suggested = result.least / 10;
  return result;
}

}  // namespace qkv
