#pragma once
// chrF: an F-score over character n-grams, which credits a word that is nearly right. Popović, "chrF:
// character n-gram F-score for automatic MT evaluation" (WMT 2015); with word n-grams "chrF++" (WMT 2017).
// As sacreBLEU 2.x computes it.
//
//   chrF = 100 * (1 + beta^2) P R / (beta^2 P + R)
//
// P and R are means, over the n-gram orders that both sides have, of matches / n-grams in the hypothesis and
// matches / n-grams in the reference, counted over the whole corpus. With several references each sentence is
// counted against the one that gives it the best score (the first of equals).

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/scores/metric.h"

namespace qkv::scores {

struct ChrfOptions {
  int64_t char_order = 6;  // 1 .. 32
  int64_t word_order = 0;  // 0 .. 16; 2 is chrF++
  int64_t beta = 2;        // recall counts beta times as much as precision; 1 .. 16
  bool lowercase = false;
  bool whitespace = false;  // white space counts as characters; otherwise it is taken out first
  bool eps_smoothing =
      false;  // as chrF++.py, NLTK and Moses: the mean of the orders' F-scores, 1e-16 for none
};

struct ChrfScore {
  double score = 0;  // 0 .. 100
  std::string name;  // "chrF2", "chrF2++"
  std::string signature;
};

/// A row is, per order (characters first), n-grams in hypothesis, in reference, in both.
class Chrf : public Metric {
 public:
  /// Throws Error kValue: an order or beta outside its range.
  explicit Chrf(const ChrfOptions& options = {});
  std::string name() const override;
  int64_t width() const override { return 3 * (options_.char_order + options_.word_order); }
  double score(std::span<const double> sums) const override;
  Signature signature(int64_t n_refs) const override;

 protected:
  void segment(std::string_view hyp, std::span<const std::string_view> refs,
               std::span<double> row) const override;

 private:
  ChrfOptions options_;
};

/// chrF of a corpus. O(characters * (char_order + word_order)). Throws Error kValue as corpus_bleu.
ChrfScore corpus_chrf(std::span<const std::string> hyps, const References& refs,
                      const ChrfOptions& options = {});
ChrfScore sentence_chrf(const std::string& hyp, const std::vector<std::string>& refs,
                        const ChrfOptions& options = {});

/// The words of chrF++: split at white space, then one ASCII punctuation mark parted from a word's end, or
/// else from its beginning: "(hi)" gives "(hi" and ")".
std::vector<std::string_view> chrf_words(std::string_view line);

}  // namespace qkv::scores
