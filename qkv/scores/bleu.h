#pragma once
// BLEU: how many of a translation's n-grams its references have. Papineni et al., "BLEU: a Method for
// Automatic Evaluation of Machine Translation" (ACL 2002), with everything the paper leaves open fixed as
// sacreBLEU 2.x fixes it: Post, "A Call for Clarity in Reporting BLEU Scores" (WMT 2018).
//
//   BLEU = 100 * BP * exp( mean over n = 1..4 of log p_n )
//   p_n  = sum over sentences of min(count in hyp, max count in one ref) / sum of n-grams in hyp
//   BP   = 1 if hyp_len >= ref_len, else exp(1 - ref_len / hyp_len)
//
// ref_len sums, for each sentence, the length of the reference that is nearest in length to the hypothesis
// (the shorter of two equally near). 100 * p_n that is 0 is smoothed; log 0 counts as -9999999999.

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/scores/metric.h"
#include "qkv/scores/tokenize.h"

namespace qkv::scores {

/// Methods of Chen and Cherry, "A Systematic Comparison of Smoothing Techniques for Sentence-Level BLEU"
/// (WMT 2014). None of them raises a score whose n-grams match nowhere above 0.
enum class BleuSmoothing {
  kExp,    // the k-th order without a match counts 1 / 2^k matches (NIST, mteval-v13a). The default
  kFloor,  // an order without a match counts smooth_value matches (default 0.1)
  kAddK,   // smooth_value (default 1) is added to matches and totals of the orders from 2 on
  kNone,
};

const char* name(BleuSmoothing smoothing);                  // "exp", "floor", "add-k", "none"
BleuSmoothing parse_bleu_smoothing(std::string_view name);  // Error kValue lists what there is

struct BleuOptions {
  BleuTokenizer tokenize = BleuTokenizer::k13a;
  bool lowercase = false;
  BleuSmoothing smooth = BleuSmoothing::kExp;
  std::optional<double> smooth_value = std::nullopt;  // finite, >= 0; for kFloor and kAddK alone
  int64_t max_order = 4;                              // 1 .. 16
  /// Stop at the longest n-gram the hypothesis has. For single sentences; wrong for corpora.
  bool effective_order = false;
};

struct BleuScore {
  double score = 0;                // 0 .. 100
  std::vector<int64_t> counts;     // matches per order, before smoothing
  std::vector<int64_t> totals;     // n-grams per order, before smoothing
  std::vector<double> precisions;  // in percent, after smoothing
  double bp = 0;
  int64_t hyp_len = 0, ref_len = 0;
  std::string signature;

  double ratio() const {
    return ref_len > 0 ? static_cast<double>(hyp_len) / static_cast<double>(ref_len) : 0;
  }
  /// "82.4/50.0/45.5/37.5 (BP = 0.943 ratio = 0.944 hyp_len = 17 ref_len = 18)"
  std::string verbose() const;
};

/// BLEU from its sufficient statistics. counts and totals need max_order entries.
BleuScore bleu_from_counts(std::span<const int64_t> counts, std::span<const int64_t> totals, int64_t hyp_len,
                           int64_t ref_len, const BleuOptions& options = {});

/// A row is hyp_len, ref_len, counts, totals.
class Bleu : public Metric {
 public:
  /// Throws Error kValue: max_order or smooth_value outside its range.
  explicit Bleu(const BleuOptions& options = {});
  std::string name() const override { return "BLEU"; }
  int64_t width() const override { return 2 + 2 * options_.max_order; }
  double score(std::span<const double> sums) const override { return detail(sums).score; }
  std::string verbose(std::span<const double> sums) const override { return detail(sums).verbose(); }
  Signature signature(int64_t n_refs) const override;

  /// Everything about the score of summed rows; its signature is left empty.
  BleuScore detail(std::span<const double> sums) const;

 protected:
  void segment(std::string_view hyp, std::span<const std::string_view> refs,
               std::span<double> row) const override;

 private:
  BleuOptions options_;
};

/// BLEU of a corpus: hyps[i] against refs[k][i] (see References for missing ones). O(characters).
/// Throws Error kValue: no sentences, columns of different lengths, a sentence without a reference.
BleuScore corpus_bleu(std::span<const std::string> hyps, const References& refs,
                      const BleuOptions& options = {});

/// BLEU of one sentence, effective_order on whatever the options say. The corpus score is not their mean.
BleuScore sentence_bleu(const std::string& hyp, const std::vector<std::string>& refs,
                        const BleuOptions& options = {});

/// BLEU of the sentences whose source has min_words .. max_words words (white space between them).
struct LengthBucket {
  int64_t min_words = 0;
  int64_t max_words = std::numeric_limits<int64_t>::max();  // the last bucket is open
  int64_t n_sentences = 0;
  BleuScore bleu;  // meaningless where n_sentences is 0

  std::string label() const;  // "1-5", "31+"
};

/// The claim of Bahdanau et al. (2014), figure 2: without attention, long sentences are where quality goes.
/// `upper_edges` are the longest lengths of all buckets but the last, rising; the first bucket begins at one
/// word and takes empty sources too.
/// Throws Error kValue: sources and hyps differ in number, edges that do not rise; else as corpus_bleu.
std::vector<LengthBucket> bleu_by_length(std::span<const std::string> sources,
                                         std::span<const std::string> hyps, const References& refs,
                                         const BleuOptions& options = {},
                                         std::span<const int64_t> upper_edges = std::array<int64_t, 5>{
                                             5, 10, 15, 20, 30});

}  // namespace qkv::scores
