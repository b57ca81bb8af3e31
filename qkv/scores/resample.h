#pragma once
// How sure a score is: bootstrap intervals for one system, paired tests between systems. As sacreBLEU 2.x
// (sacrebleu/significance.py), for any Metric, from its sufficient statistics alone.
//
//   Koehn, "Statistical Significance Tests for Machine Translation Evaluation" (EMNLP 2004): bootstrap
//   Riezler and Maxwell, "On Some Pitfalls in Automatic Evaluation and Significance Testing for MT" (2005):
//   approximate randomization
//
// Random numbers are qkv's Philox streams, one a resample, so results do not depend on the number of threads.
// sacreBLEU draws from numpy's PCG64: means, intervals and p-values therefore agree with its own as two seeds
// agree with each other, not to the digit. Scores themselves do agree to the digit.

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "qkv/scores/metric.h"

namespace qkv::scores {

struct BootstrapOptions {
  int64_t n_samples = 1000;  // 2 .. 1000000
  uint64_t seed = 12345;
};

/// The scores of n_samples corpora, each of stats.size() sentences drawn with replacement.
/// O(n_samples * stats.size() * stats.width). Throws Error kValue: n_samples outside its range, no sentences.
std::vector<double> bootstrap_scores(const Metric& metric, const SegmentStats& stats,
                                     const BootstrapOptions& options = {});

/// Their mean, and half the distance between the values that leave 1/40 of them outside on each side.
Interval interval_95(std::vector<double> scores);

enum class PairedMethod {
  kBootstrap,                 // "bs": resample sentences; are differences as large as ours chance?
  kApproximateRandomization,  // "ar": swap the two systems' sentences at random; the more careful of the two
};

PairedMethod parse_paired_method(std::string_view name);  // "bs", "ar"; Error kValue

struct PairedOptions {
  PairedMethod method = PairedMethod::kBootstrap;
  int64_t n_samples = 0;     // 0: 1000 for the bootstrap, 10000 for randomization; up to 1000000
  int64_t n_confidence = 0;  // bootstrap samples for intervals beside randomization; 0: no intervals
  uint64_t seed = 12345;

  int64_t samples() const {
    return n_samples > 0 ? n_samples : method == PairedMethod::kBootstrap ? 1000 : 10000;
  }
};

struct PairedResult {
  double score = 0;
  std::optional<double> p_value;     // none for the baseline
  std::optional<Interval> interval;  // none for randomization without n_confidence
};

/// Each system against the first, the baseline. Two-sided:
///
///   p = (1 + number of samples with t > |score(system) - score(baseline)|) / (1 + samples)
///   t = d - mean(d), d = |difference of the scores on the same resample|      for the bootstrap
///   t = |difference of the scores after random swaps|                        for randomization
///
/// All systems see the same samples. `systems` are the segment_stats of the systems on the same references.
/// Throws Error kValue: fewer than two systems, rows that differ in number or width, counts outside their
/// range.
std::vector<PairedResult> paired_test(const Metric& metric, std::span<const SegmentStats> systems,
                                      const PairedOptions& options = {});

}  // namespace qkv::scores
