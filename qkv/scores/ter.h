#pragma once
// TER: how many edits (insert, delete, replace a word; move a run of words) turn a translation into its
// reference, per reference word. Snover et al., "A Study of Translation Edit Rate with Targeted Human
// Annotation" (AMTA 2006). The search for moves is tercom's as sacreBLEU 2.x follows it (ter_edits.h).
//
//   TER = 100 * sum of edits to the nearest reference / sum of mean reference lengths        (lower is
//   better)
//
// Words of no reference at all (all of it dropped as punctuation): 100 where there are edits, else 0.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/scores/metric.h"
#include "qkv/scores/tokenize.h"

namespace qkv::scores {

struct TerScore {
  double score = 0;  // from 0; may pass 100
  int64_t edits = 0;
  double ref_len = 0;
  std::string signature;
};

/// A row is edits, mean reference length.
class Ter : public Metric {
 public:
  explicit Ter(const TercomOptions& options = {}) : options_(options) {}
  std::string name() const override { return "TER"; }
  int64_t width() const override { return 2; }
  double score(std::span<const double> sums) const override;
  Signature signature(int64_t n_refs) const override;

 protected:
  void segment(std::string_view hyp, std::span<const std::string_view> refs,
               std::span<double> row) const override;

 private:
  TercomOptions options_;
};

/// TER of a corpus. Throws Error kValue as corpus_bleu.
/// Cost a sentence: at most ~1000 candidate moves of O(50 * words) each.
TerScore corpus_ter(std::span<const std::string> hyps, const References& refs,
                    const TercomOptions& options = {});
TerScore sentence_ter(const std::string& hyp, const std::vector<std::string>& refs,
                      const TercomOptions& options = {});

}  // namespace qkv::scores
