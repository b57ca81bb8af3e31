#include "qkv/scores/resample.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "qkv/base/parallel.h"
#include "qkv/base/philox.h"

namespace qkv::scores {
namespace {

// Consumers of random numbers; the step of a key is the sample's number.
constexpr uint32_t kBootstrapStream = 0x424F4F54;  // "BOOT"
constexpr uint32_t kSwapStream = 0x53574150;       // "SWAP"
constexpr int64_t kMaxSamples = 1000000;
constexpr int64_t kGrain = 8;  // samples a piece of parallel work; one takes from 10 us

void check_samples(int64_t n, const char* what) {
  QKV_CHECK(n >= 2 && n <= kMaxSamples, kValue, "significance: {} is {}, needs 2 to {}", what, n,
            kMaxSamples);
}

double mean(std::span<const double> x) {
  return std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
}

void add_row(std::span<double> sums, std::span<const double> row) {
  for (size_t k = 0; k < sums.size(); ++k) sums[k] += row[k];
}

// (1 + #{t > observed}) / (1 + #t). "Greater", not "at least": a system against itself has no difference, and
// that is not to be put down to chance (multeval, StratifiedApproximateRandomizationTest.java).
double p_value(std::span<const double> t, double observed) {
  const auto more = std::count_if(t.begin(), t.end(), [&](double x) { return x > observed; });
  return static_cast<double>(more + 1) / static_cast<double>(t.size() + 1);
}

// |score(a) - score(b)| after swapping the two systems' rows by fair coins, one coin a sentence.
std::vector<double> swapped_differences(const Metric& metric, const SegmentStats& baseline,
                                        const SegmentStats& system, const PairedOptions& options) {
  std::vector<double> out(static_cast<size_t>(options.samples()));
  parallel_for(options.samples(), kGrain, [&](int64_t begin, int64_t end) {
    const auto width = static_cast<size_t>(baseline.width);
    std::vector<double> a(width), b(width);
    for (int64_t sample = begin; sample < end; ++sample) {
      RandomStream random({options.seed, kSwapStream, static_cast<uint32_t>(sample)});
      std::fill(a.begin(), a.end(), 0.0);
      std::fill(b.begin(), b.end(), 0.0);
      uint32_t coins = 0;
      for (int64_t i = 0; i < baseline.size(); ++i, coins >>= 1) {
        if (i % 32 == 0) coins = random();
        const bool keep = coins & 1;
        add_row(a, keep ? baseline.row(i) : system.row(i));
        add_row(b, keep ? system.row(i) : baseline.row(i));
      }
      out[static_cast<size_t>(sample)] = std::abs(metric.score(a) - metric.score(b));
    }
  });
  return out;
}

}  // namespace

std::vector<double> bootstrap_scores(const Metric& metric, const SegmentStats& stats,
                                     const BootstrapOptions& options) {
  check_samples(options.n_samples, "the number of bootstrap samples");
  QKV_CHECK(stats.size() > 0, kValue, "significance: there are no sentences to resample");
  std::vector<double> out(static_cast<size_t>(options.n_samples));
  parallel_for(options.n_samples, kGrain, [&](int64_t begin, int64_t end) {
    std::vector<double> sums(static_cast<size_t>(stats.width));
    for (int64_t sample = begin; sample < end; ++sample) {
      RandomStream random({options.seed, kBootstrapStream, static_cast<uint32_t>(sample)});
      std::fill(sums.begin(), sums.end(), 0.0);
      for (int64_t i = 0; i < stats.size(); ++i)
        add_row(sums, stats.row(static_cast<int64_t>(random.below(static_cast<uint64_t>(stats.size())))));
      out[static_cast<size_t>(sample)] = metric.score(sums);
    }
  });
  return out;
}

Interval interval_95(std::vector<double> scores) {
  QKV_CHECK(!scores.empty(), kValue, "significance: an interval needs scores");
  std::sort(scores.begin(), scores.end());
  const size_t outside = scores.size() / 40;
  return {mean(scores), 0.5 * (scores[scores.size() - outside - 1] - scores[outside])};
}

PairedMethod parse_paired_method(std::string_view name) {
  if (name == "bs") return PairedMethod::kBootstrap;
  if (name == "ar") return PairedMethod::kApproximateRandomization;
  throw_error(
      ErrorCode::kValue,
      "significance: unknown method \"{}\"; there is bs (paired bootstrap), ar (approximate randomization)",
      name.substr(0, 40));
}

std::vector<PairedResult> paired_test(const Metric& metric, std::span<const SegmentStats> systems,
                                      const PairedOptions& options) {
  QKV_CHECK(systems.size() >= 2, kValue, "paired test: needs a baseline and at least one more system, got {}",
            systems.size());
  for (const SegmentStats& s : systems) {
    QKV_CHECK(s.size() == systems[0].size() && s.width == systems[0].width, kValue,
              "paired test: the systems have {} and {} sentences; they need the same ones", systems[0].size(),
              s.size());
  }
  check_samples(options.samples(), "the number of samples");
  const bool by_bootstrap = options.method == PairedMethod::kBootstrap;
  const int64_t n_bootstrap = by_bootstrap ? options.samples() : options.n_confidence;

  std::vector<PairedResult> results;
  std::vector<double> of_baseline;
  for (size_t k = 0; k < systems.size(); ++k) {
    PairedResult& result = results.emplace_back();
    result.score = metric.score(systems[k].sum());
    std::vector<double> resampled;
    if (n_bootstrap > 0) {
      resampled = bootstrap_scores(metric, systems[k], {.n_samples = n_bootstrap, .seed = options.seed});
      result.interval = interval_95(resampled);
    }
    if (k == 0) {
      of_baseline = std::move(resampled);
      continue;
    }
    const double observed = std::abs(results[0].score - result.score);
    std::vector<double> t;
    if (by_bootstrap) {
      for (size_t s = 0; s < resampled.size(); ++s) t.push_back(std::abs(resampled[s] - of_baseline[s]));
      const double middle = mean(t);
      for (double& x : t) x -= middle;
    } else {
      t = swapped_differences(metric, systems[0], systems[k], options);
    }
    result.p_value = p_value(t, observed);
  }
  return results;
}

}  // namespace qkv::scores
