#include "qkv/scores/bleu.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <unordered_map>
#include <utility>

#include "qkv/base/quote.h"
#include "qkv/scores/ngrams.h"
#include "qkv/scores/python_text.h"

namespace qkv::scores {
namespace {

constexpr std::array<std::pair<BleuSmoothing, const char*>, 4> kSmoothings = {
    {{BleuSmoothing::kExp, "exp"},
     {BleuSmoothing::kFloor, "floor"},
     {BleuSmoothing::kAddK, "add-k"},
     {BleuSmoothing::kNone, "none"}}};

double smooth_value(const BleuOptions& options) {
  return options.smooth_value.value_or(options.smooth == BleuSmoothing::kFloor ? 0.1 : 1.0);
}

double log_or_far_below(double x) { return x == 0.0 ? -9999999999.0 : std::log(x); }

int64_t nearest_length(int64_t hyp_len, std::span<const int64_t> ref_lens) {
  return *std::min_element(ref_lens.begin(), ref_lens.end(), [&](int64_t a, int64_t b) {
    return std::pair(std::abs(hyp_len - a), a) < std::pair(std::abs(hyp_len - b), b);
  });
}

}  // namespace

const char* name(BleuSmoothing smoothing) {
  for (const auto& [value, text] : kSmoothings)
    if (value == smoothing) return text;
  return "?";
}

BleuSmoothing parse_bleu_smoothing(std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto& [value, text] : kSmoothings) {
    if (name == text) return value;
    names.emplace_back(text);
  }
  throw_error(ErrorCode::kValue, "bleu: unknown smoothing {}; there is {}", quote(name, 40),
              fmt::join(names, ", "));
}

std::string BleuScore::verbose() const {
  std::string out;
  for (const double p : precisions) out += fmt::format("{}{:.1f}", out.empty() ? "" : "/", p);
  return out + fmt::format(" (BP = {:.3f} ratio = {:.3f} hyp_len = {} ref_len = {})", bp, ratio(), hyp_len,
                           ref_len);
}

BleuScore bleu_from_counts(std::span<const int64_t> counts, std::span<const int64_t> totals, int64_t hyp_len,
                           int64_t ref_len, const BleuOptions& options) {
  const auto max_order = static_cast<size_t>(options.max_order);
  QKV_CHECK(counts.size() == max_order && totals.size() == max_order, kValue,
            "bleu: {} counts and {} totals for max_order {}", counts.size(), totals.size(), max_order);
  BleuScore out;
  out.counts.assign(counts.begin(), counts.end());
  out.totals.assign(totals.begin(), totals.end());
  out.precisions.assign(max_order, 0.0);
  out.hyp_len = hyp_len;
  out.ref_len = ref_len;
  out.bp = hyp_len >= ref_len ? 1.0
           : hyp_len > 0      ? std::exp(1.0 - static_cast<double>(ref_len) / static_cast<double>(hyp_len))
                              : 0.0;
  if (std::all_of(counts.begin(), counts.end(), [](int64_t c) { return c == 0; })) return out;

  double halvings = 1.0;
  size_t orders = max_order;
  for (size_t n = 0; n < max_order; ++n) {
    const double added = options.smooth == BleuSmoothing::kAddK && n > 0 ? smooth_value(options) : 0.0;
    const double correct = static_cast<double>(counts[n]) + added;
    const double total = static_cast<double>(totals[n]) + added;
    if (total == 0.0) break;
    if (options.effective_order) orders = n + 1;
    if (correct != 0.0) {
      out.precisions[n] = 100.0 * correct / total;
    } else if (options.smooth == BleuSmoothing::kExp) {
      halvings *= 2.0;
      out.precisions[n] = 100.0 / (halvings * total);
    } else if (options.smooth == BleuSmoothing::kFloor) {
      out.precisions[n] = 100.0 * smooth_value(options) / total;
    }
  }
  double logs = 0.0;
  for (size_t n = 0; n < orders; ++n) logs += log_or_far_below(out.precisions[n]);
  out.score = out.bp * std::exp(logs / static_cast<double>(orders));
  return out;
}

Bleu::Bleu(const BleuOptions& options) : options_(options) {
  QKV_CHECK(options.max_order >= 1 && options.max_order <= 16, kValue, "bleu: max_order is {}, needs 1 to 16",
            options.max_order);
  if (options.smooth_value) {
    QKV_CHECK(std::isfinite(*options.smooth_value) && *options.smooth_value >= 0, kValue,
              "bleu: smooth_value is {}, needs a number from 0 on", *options.smooth_value);
    QKV_CHECK(options.smooth == BleuSmoothing::kFloor || options.smooth == BleuSmoothing::kAddK, kValue,
              "bleu: smoothing {} takes no value; floor and add-k do", scores::name(options.smooth));
  }
}

Signature Bleu::signature(int64_t n_refs) const {
  std::string smooth = scores::name(options_.smooth);
  if (options_.smooth == BleuSmoothing::kFloor || options_.smooth == BleuSmoothing::kAddK)
    smooth += fmt::format("[{:.2f}]", smooth_value(options_));
  Signature out(n_refs);
  out.add("case", "c", options_.lowercase ? "lc" : "mixed");
  out.add("eff", "e", options_.effective_order ? "yes" : "no");
  out.add("tok", "tok", scores::name(options_.tokenize));
  out.add("smooth", "s", smooth);
  return out;
}

BleuScore Bleu::detail(std::span<const double> sums) const {
  const auto orders = static_cast<size_t>(options_.max_order);
  std::vector<int64_t> whole(sums.size());
  std::transform(sums.begin(), sums.end(), whole.begin(), [](double x) { return static_cast<int64_t>(x); });
  return bleu_from_counts(std::span(whole).subspan(2, orders), std::span(whole).subspan(2 + orders, orders),
                          whole[0], whole[1], options_);
}

void Bleu::segment(std::string_view hyp, std::span<const std::string_view> refs,
                   std::span<double> row) const {
  // The words of hypothesis and references as numbers that are the same where the words are.
  std::vector<std::string> lines;
  lines.reserve(1 + refs.size());  // the views in `numbers` point into them
  std::unordered_map<std::string_view, uint32_t> numbers;
  std::vector<std::vector<uint32_t>> tokens;
  int64_t n_tokens = 0;
  const auto read = [&](std::string_view text) {
    const std::string folded = options_.lowercase ? lower(text) : std::string(text);
    lines.push_back(tokenize(rstrip(folded), options_.tokenize));
    auto& out = tokens.emplace_back();
    for (const std::string_view word : split(lines.back()))
      out.push_back(numbers.try_emplace(word, static_cast<uint32_t>(numbers.size())).first->second);
    n_tokens += static_cast<int64_t>(out.size());
  };
  read(hyp);
  for (const std::string_view ref : refs) read(ref);

  std::vector<int64_t> ref_lens;
  for (size_t k = 1; k < tokens.size(); ++k) ref_lens.push_back(static_cast<int64_t>(tokens[k].size()));
  const int64_t hyp_len = static_cast<int64_t>(tokens[0].size());
  row[0] = static_cast<double>(hyp_len);
  row[1] = static_cast<double>(nearest_length(hyp_len, ref_lens));

  NgramIds grams;
  std::vector<std::vector<uint32_t>> ids(tokens.size());
  std::vector<uint32_t> in_hyp, in_ref, most;
  for (int64_t n = 1; n <= options_.max_order && n <= hyp_len; ++n) {
    grams.next_order(n_tokens);
    for (size_t k = 0; k < tokens.size(); ++k) grams.extend(ids[k], tokens[k], n);
    count_ids(in_hyp, ids[0], grams.size());
    most.assign(in_hyp.size(), 0);
    for (size_t k = 1; k < ids.size(); ++k) {
      count_ids(in_ref, ids[k], grams.size());
      for (size_t g = 0; g < most.size(); ++g) most[g] = std::max(most[g], in_ref[g]);
    }
    int64_t matches = 0;
    for (size_t g = 0; g < most.size(); ++g) matches += std::min(in_hyp[g], most[g]);
    row[static_cast<size_t>(1 + n)] = static_cast<double>(matches);
    row[static_cast<size_t>(1 + options_.max_order + n)] = static_cast<double>(ids[0].size());
  }
}

BleuScore corpus_bleu(std::span<const std::string> hyps, const References& refs, const BleuOptions& options) {
  const Bleu bleu(options);
  const SegmentStats stats = bleu.segment_stats(hyps, refs);
  BleuScore out = bleu.detail(stats.sum());
  out.signature = bleu.signature(stats.n_refs).text();
  return out;
}

BleuScore sentence_bleu(const std::string& hyp, const std::vector<std::string>& refs,
                        const BleuOptions& options) {
  References columns;
  for (const std::string& ref : refs) columns.push_back({ref});
  BleuOptions effective = options;
  effective.effective_order = true;
  return corpus_bleu(std::span(&hyp, 1), columns, effective);
}

std::string LengthBucket::label() const {
  if (max_words == std::numeric_limits<int64_t>::max()) return fmt::format("{}+", min_words);
  return min_words == max_words ? std::to_string(min_words) : fmt::format("{}-{}", min_words, max_words);
}

std::vector<LengthBucket> bleu_by_length(std::span<const std::string> sources,
                                         std::span<const std::string> hyps, const References& refs,
                                         const BleuOptions& options, std::span<const int64_t> upper_edges) {
  QKV_CHECK(sources.size() == hyps.size(), kValue, "bleu_by_length: {} sources for {} hypotheses",
            sources.size(), hyps.size());
  std::vector<LengthBucket> buckets(1);
  buckets[0].min_words = 1;
  for (const int64_t edge : upper_edges) {
    QKV_CHECK(edge >= buckets.back().min_words && edge < std::numeric_limits<int64_t>::max(), kValue,
              "bleu_by_length: edges need to rise from 1 on, got {}", fmt::join(upper_edges, ", "));
    buckets.back().max_words = edge;
    buckets.emplace_back().min_words = edge + 1;
  }

  const Bleu bleu(options);
  const SegmentStats stats = bleu.segment_stats(hyps, refs);
  std::vector<std::vector<double>> sums(buckets.size(),
                                        std::vector<double>(static_cast<size_t>(stats.width), 0.0));
  for (int64_t i = 0; i < stats.size(); ++i) {
    const auto words = static_cast<int64_t>(split(sources[static_cast<size_t>(i)]).size());
    const size_t b = static_cast<size_t>(std::lower_bound(upper_edges.begin(), upper_edges.end(), words) -
                                         upper_edges.begin());
    const auto row = stats.row(i);
    for (size_t k = 0; k < row.size(); ++k) sums[b][k] += row[k];
    ++buckets[b].n_sentences;
  }
  for (size_t b = 0; b < buckets.size(); ++b) {
    buckets[b].bleu = bleu.detail(sums[b]);
    buckets[b].bleu.signature = bleu.signature(stats.n_refs).text();
  }
  return buckets;
}

}  // namespace qkv::scores
