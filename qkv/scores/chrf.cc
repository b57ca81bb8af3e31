#include "qkv/scores/chrf.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "qkv/scores/ngrams.h"
#include "qkv/scores/python_text.h"

namespace qkv::scores {
namespace {

bool is_ascii_punct(char c) {
  return std::string_view("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~").find(c) != std::string_view::npos;
}

bool is_one_character(std::string_view word) {
  return std::count_if(word.begin(), word.end(), [](char c) { return (c & 0xC0) != 0x80; }) == 1;
}

// Counts of one kind of n-gram (characters or words), orders 1 .. max_order, hypothesis against each of the
// references: rows[k] gets 3 numbers an order, from `at` on. sequences[0] is the hypothesis.
void count_matches(const std::vector<std::vector<uint32_t>>& sequences, int64_t max_order, size_t at,
                   std::vector<std::vector<double>>& rows) {
  int64_t total = 0;
  for (const auto& s : sequences) total += static_cast<int64_t>(s.size());
  NgramIds grams;
  std::vector<std::vector<uint32_t>> ids(sequences.size());
  std::vector<uint32_t> in_hyp, in_ref;
  for (int64_t n = 1; n <= max_order; ++n, at += 3) {
    grams.next_order(total);
    for (size_t k = 0; k < sequences.size(); ++k) grams.extend(ids[k], sequences[k], n);
    count_ids(in_hyp, ids[0], grams.size());
    for (size_t k = 1; k < ids.size(); ++k) {
      count_ids(in_ref, ids[k], grams.size());
      int64_t matches = 0;
      for (size_t g = 0; g < in_hyp.size(); ++g) matches += std::min(in_hyp[g], in_ref[g]);
      auto& row = rows[k - 1];
      // An order the reference is too short for is not held against the hypothesis.
      row[at] = ids[k].empty() ? 0.0 : static_cast<double>(ids[0].size());
      row[at + 1] = static_cast<double>(ids[k].size());
      row[at + 2] = static_cast<double>(matches);
    }
  }
}

}  // namespace

std::vector<std::string_view> chrf_words(std::string_view line) {
  std::vector<std::string_view> words;
  for (const std::string_view w : split(line)) {
    if (is_one_character(w)) {
      words.push_back(w);
    } else if (is_ascii_punct(w.back())) {
      words.push_back(w.substr(0, w.size() - 1));
      words.push_back(w.substr(w.size() - 1));
    } else if (is_ascii_punct(w.front())) {
      words.push_back(w.substr(0, 1));
      words.push_back(w.substr(1));
    } else {
      words.push_back(w);
    }
  }
  return words;
}

Chrf::Chrf(const ChrfOptions& options) : options_(options) {
  QKV_CHECK(options.char_order >= 1 && options.char_order <= 32, kValue,
            "chrf: char_order is {}, needs 1 to 32", options.char_order);
  QKV_CHECK(options.word_order >= 0 && options.word_order <= 16, kValue,
            "chrf: word_order is {}, needs 0 to 16", options.word_order);
  QKV_CHECK(options.beta >= 1 && options.beta <= 16, kValue, "chrf: beta is {}, needs 1 to 16", options.beta);
}

std::string Chrf::name() const {
  return "chrF" + std::to_string(options_.beta) + std::string(static_cast<size_t>(options_.word_order), '+');
}

Signature Chrf::signature(int64_t n_refs) const {
  Signature out(n_refs);
  out.add("case", "c", options_.lowercase ? "lc" : "mixed");
  out.add("eff", "e", options_.eps_smoothing ? "no" : "yes");
  out.add("nc", "nc", std::to_string(options_.char_order));
  out.add("nw", "nw", std::to_string(options_.word_order));
  out.add("space", "s", options_.whitespace ? "yes" : "no");
  return out;
}

double Chrf::score(std::span<const double> sums) const {
  constexpr double kEpsilon = 1e-16;
  const double factor = static_cast<double>(options_.beta * options_.beta);
  const int64_t orders = options_.char_order + options_.word_order;
  double f_scores = 0, precision = 0, recall = 0;
  int64_t effective = 0;
  for (int64_t n = 0; n < orders; ++n) {
    const double in_hyp = sums[static_cast<size_t>(3 * n)], in_ref = sums[static_cast<size_t>(3 * n + 1)],
                 matches = sums[static_cast<size_t>(3 * n + 2)];
    const double p = in_hyp > 0 ? matches / in_hyp : kEpsilon;
    const double r = in_ref > 0 ? matches / in_ref : kEpsilon;
    const double below = factor * p + r;
    f_scores += below > 0 ? (1 + factor) * p * r / below : kEpsilon;
    if (in_hyp > 0 && in_ref > 0) {
      precision += p;
      recall += r;
      ++effective;
    }
  }
  if (options_.eps_smoothing) return 100 * f_scores / static_cast<double>(orders);
  if (effective == 0) return 0.0;
  precision /= static_cast<double>(effective);
  recall /= static_cast<double>(effective);
  if (precision + recall == 0) return 0.0;
  return 100 * ((1 + factor) * precision * recall / (factor * precision + recall));
}

void Chrf::segment(std::string_view hyp, std::span<const std::string_view> refs,
                   std::span<double> row) const {
  std::vector<std::string> lines{std::string(hyp)};
  lines.insert(lines.end(), refs.begin(), refs.end());
  std::vector<std::vector<uint32_t>> characters(lines.size()), words(lines.size());
  std::unordered_map<std::string_view, uint32_t> numbers;
  for (size_t k = 0; k < lines.size(); ++k) {
    if (options_.lowercase) lines[k] = lower(lines[k]);
    for (const char32_t c : decode(lines[k]))
      if (options_.whitespace || !is_space(c)) characters[k].push_back(c);
    if (options_.word_order > 0)
      for (const std::string_view w : chrf_words(lines[k]))
        words[k].push_back(numbers.try_emplace(w, static_cast<uint32_t>(numbers.size())).first->second);
  }

  std::vector<std::vector<double>> rows(refs.size(), std::vector<double>(row.size(), 0.0));
  count_matches(characters, options_.char_order, 0, rows);
  count_matches(words, options_.word_order, static_cast<size_t>(3 * options_.char_order), rows);
  double best = -1.0;
  for (const auto& candidate : rows) {
    if (const double s = score(candidate); s > best) {
      best = s;
      std::copy(candidate.begin(), candidate.end(), row.begin());
    }
  }
}

ChrfScore corpus_chrf(std::span<const std::string> hyps, const References& refs, const ChrfOptions& options) {
  const Chrf chrf(options);
  const SegmentStats stats = chrf.segment_stats(hyps, refs);
  return {chrf.score(stats.sum()), chrf.name(), chrf.signature(stats.n_refs).text()};
}

ChrfScore sentence_chrf(const std::string& hyp, const std::vector<std::string>& refs,
                        const ChrfOptions& options) {
  References columns;
  for (const std::string& ref : refs) columns.push_back({ref});
  return corpus_chrf(std::span(&hyp, 1), columns, options);
}

}  // namespace qkv::scores
