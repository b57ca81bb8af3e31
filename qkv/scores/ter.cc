#include "qkv/scores/ter.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "qkv/scores/python_text.h"
#include "qkv/scores/ter_edits.h"

namespace qkv::scores {

double Ter::score(std::span<const double> sums) const {
  const double edits = sums[0], ref_len = sums[1];
  return 100.0 * (ref_len > 0 ? edits / ref_len : edits > 0 ? 1.0 : 0.0);
}

Signature Ter::signature(int64_t n_refs) const {
  const auto yes = [](bool b) { return b ? "yes" : "no"; };
  Signature out(n_refs);
  out.add("case", "c", options_.case_sensitive ? "mixed" : "lc");
  out.add("tok", "t", "tercom");
  out.add("norm", "nr", yes(options_.normalized));
  out.add("punct", "pn", yes(!options_.no_punct));
  out.add("asian", "as", yes(options_.asian_support));
  return out;
}

void Ter::segment(std::string_view hyp, std::span<const std::string_view> refs, std::span<double> row) const {
  std::unordered_map<std::string, uint32_t> numbers;
  const auto words = [&](std::string_view text) {
    std::vector<uint32_t> out;
    const std::string line = tokenize_tercom(rstrip(text), options_);
    for (const std::string_view w : split(line))
      out.push_back(numbers.try_emplace(std::string(w), static_cast<uint32_t>(numbers.size())).first->second);
    return out;
  };
  const std::vector<uint32_t> hyp_words = words(hyp);
  int64_t fewest = std::numeric_limits<int64_t>::max(), lengths = 0;
  for (const std::string_view ref : refs) {
    const std::vector<uint32_t> ref_words = words(ref);
    fewest = std::min(fewest, translation_edits(hyp_words, ref_words));
    lengths += static_cast<int64_t>(ref_words.size());
  }
  row[0] = static_cast<double>(fewest);
  row[1] = static_cast<double>(lengths) / static_cast<double>(refs.size());
}

TerScore corpus_ter(std::span<const std::string> hyps, const References& refs, const TercomOptions& options) {
  const Ter ter(options);
  const SegmentStats stats = ter.segment_stats(hyps, refs);
  const std::vector<double> sums = stats.sum();
  return {ter.score(sums), static_cast<int64_t>(sums[0]), sums[1], ter.signature(stats.n_refs).text()};
}

TerScore sentence_ter(const std::string& hyp, const std::vector<std::string>& refs,
                      const TercomOptions& options) {
  References columns;
  for (const std::string& ref : refs) columns.push_back({ref});
  return corpus_ter(std::span(&hyp, 1), columns, options);
}

}  // namespace qkv::scores
