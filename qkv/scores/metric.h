#pragma once
// What BLEU, chrF and TER have in common: a row of sufficient statistics for each sentence, and a score from
// the sum of any rows. Resampling, paired tests and scores by length are then written once, and never look at
// the text again.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "qkv/base/error.h"

namespace qkv::scores {

/// References come as columns: refs[k][i] is reference k of sentence i, and every column is as long as the
/// hypotheses. An empty string means that sentence i has no reference k (sacreBLEU's variable number of
/// references); each sentence needs one that is not empty.
using References = std::vector<std::vector<std::string>>;

/// The rows, width numbers each: counts, except for TER's mean reference length.
struct SegmentStats {
  int64_t width = 0;
  int64_t n_refs = 0;          // of each sentence; -1 where they differ
  std::vector<double> values;  // [size(), width]

  int64_t size() const { return width == 0 ? 0 : static_cast<int64_t>(values.size()) / width; }
  std::span<const double> row(int64_t i) const {
    return {values.data() + i * width, static_cast<size_t>(width)};
  }
  /// The sum over all rows.
  std::vector<double> sum() const;
};

/// How a score was made, as sacreBLEU writes it: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:X.
/// The version is "qkv-<version of qkv>", so that no line is taken for the original's.
class Signature {
 public:
  explicit Signature(int64_t n_refs);  // -1 prints as nrefs:var

  /// The resampling pairs, which stand between nrefs and the metric's own; 0 leaves one out.
  void set_resampling(int64_t n_bootstrap, int64_t n_randomizations, uint64_t seed);
  /// The metric's own, in order.
  void add(std::string key, std::string short_key, std::string value);

  std::string text() const;        // nrefs:1|bs:1000|seed:12345|case:mixed|...
  std::string short_text() const;  // #:1|bs:1000|rs:12345|c:mixed|...
  /// key -> value in order, version last.
  std::vector<std::pair<std::string, std::string>> pairs() const;

 private:
  struct Pair {
    std::string key, short_key, value;
  };
  std::vector<Pair> all() const;
  std::vector<Pair> head_, own_;
};

class Metric {
 public:
  virtual ~Metric() = default;

  /// One row a sentence. Runs on the kernel threads; the result does not depend on their number.
  /// Throws Error kValue: no sentences, columns of different lengths, a sentence without a reference.
  SegmentStats segment_stats(std::span<const std::string> hyps, const References& refs) const;

  virtual std::string name() const = 0;  // "BLEU", "chrF2++", "TER"
  virtual int64_t width() const = 0;
  virtual double score(std::span<const double> sums) const = 0;
  /// What sacreBLEU prints behind the score; only BLEU has something: "88.2/57.1/... (BP = 1.000 ...)".
  virtual std::string verbose(std::span<const double> /*sums*/) const { return ""; }
  virtual Signature signature(int64_t n_refs) const = 0;

 protected:
  /// Writes the row of one sentence. `refs` are those that are not empty: at least one.
  virtual void segment(std::string_view hyp, std::span<const std::string_view> refs,
                       std::span<double> row) const = 0;
};

/// A mean and half the width of the interval that holds 95 % of the resampled scores.
struct Interval {
  double mean = 0;
  double half_width = 0;
};

/// sacreBLEU's line: "BLEU|<signature> = 48.5 (μ = 48.6 ± 17.6) 82.4/50.0/45.5/37.5 (BP = ...)", `decimals`
/// after the point. The part in μ is there where an interval is given and its mean is above zero.
std::string format_line(const Metric& metric, std::span<const double> sums, const std::string& signature,
                        const Interval* interval = nullptr, int decimals = 1);

}  // namespace qkv::scores
