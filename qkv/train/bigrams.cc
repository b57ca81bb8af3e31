#include "qkv/train/bigrams.h"

#include <algorithm>
#include <cmath>

namespace qkv {
namespace {

int32_t largest(const std::vector<int64_t>& counts) {
  return static_cast<int32_t>(std::max_element(counts.begin(), counts.end()) - counts.begin());
}

}  // namespace

Bigrams::Bigrams(std::span<const int32_t> ids, int64_t vocab_size)
    : vocab_size_(vocab_size),
      n_tokens_(static_cast<int64_t>(ids.size())),
      counts_(static_cast<size_t>(vocab_size)),
      predecessors_(counts_.size()),
      begin_(counts_.size() + 1),
      total_(counts_.size()) {
  for (const int32_t id : ids) ++counts_[static_cast<size_t>(id)];
  std::vector<uint64_t> pairs;
  for (size_t i = 1; i < ids.size(); ++i)
    pairs.push_back(uint64_t{static_cast<uint32_t>(ids[i - 1])} << 32 | static_cast<uint32_t>(ids[i]));
  std::sort(pairs.begin(), pairs.end());
  int64_t once = 0, twice = 0;
  for (size_t i = 0, end = 0; i < pairs.size(); i = end) {
    end = static_cast<size_t>(
        std::upper_bound(pairs.begin() + static_cast<std::ptrdiff_t>(i), pairs.end(), pairs[i]) -
        pairs.begin());
    const size_t before = pairs[i] >> 32;
    const Successor next{.token = static_cast<int32_t>(pairs[i] & 0xffffffff),
                         .count = static_cast<int64_t>(end - i)};
    successors_.push_back(next);
    ++begin_[before + 1];
    total_[before] += next.count;
    ++predecessors_[static_cast<size_t>(next.token)];
    once += next.count == 1;
    twice += next.count == 2;
  }
  for (size_t v = 0; v < counts_.size(); ++v) begin_[v + 1] += begin_[v];
  n_pairs_ = static_cast<int64_t>(successors_.size());
  // Where no pair is seen twice, the estimate would be 1 and nothing would be learned from counts.
  discount_ =
      once > 0 && twice > 0 ? static_cast<double>(once) / static_cast<double>(once + 2 * twice) : 0.75;
  likeliest_ = largest(counts_);
  likeliest_continuation_ = largest(predecessors_);
}

std::span<const Bigrams::Successor> Bigrams::after(int32_t before) const {
  const auto v = static_cast<size_t>(before);
  return std::span(successors_)
      .subspan(static_cast<size_t>(begin_[v]), static_cast<size_t>(begin_[v + 1] - begin_[v]));
}

double Bigrams::token_nll(int32_t token) const {
  return std::log(static_cast<double>(n_tokens_ + vocab_size_)) -
         std::log(static_cast<double>(counts_[static_cast<size_t>(token)] + 1));
}

double Bigrams::continuation(int32_t token) const {
  return static_cast<double>(predecessors_[static_cast<size_t>(token)] + 1) /
         static_cast<double>(n_pairs_ + vocab_size_);
}

double Bigrams::pair_probability(int32_t before, int32_t token) const {
  const auto seen = after(before);
  if (seen.empty()) return continuation(token);
  const auto at = std::lower_bound(seen.begin(), seen.end(), token,
                                   [](const Successor& s, int32_t t) { return s.token < t; });
  const double count =
      at != seen.end() && at->token == token ? static_cast<double>(at->count) - discount_ : 0;
  return (count + discount_ * static_cast<double>(seen.size()) * continuation(token)) /
         static_cast<double>(total_[static_cast<size_t>(before)]);
}

double Bigrams::pair_nll(int32_t before, int32_t token) const {
  return -std::log(pair_probability(before, token));
}

// Among tokens that never followed, the one with most predecessors is likeliest.
int32_t Bigrams::likeliest_after(int32_t before) const {
  int32_t best = likeliest_continuation_;
  double most = pair_probability(before, best);
  for (const Successor& s : after(before))
    if (const double p = pair_probability(before, s.token); p > most) {
      most = p;
      best = s.token;
    }
  return best;
}

CountingBaseline counting_baseline(std::span<const int32_t> training, std::span<const int32_t> held_out,
                                   int64_t vocab_size) {
  constexpr size_t kMostCounted = size_t{1} << 24;
  const Bigrams counts(training.first(std::min(training.size(), kMostCounted)), vocab_size);
  std::vector<int32_t> guess(static_cast<size_t>(vocab_size), -1);
  CountingBaseline sum;
  for (size_t i = 1; i < held_out.size(); ++i) {
    const int32_t before = held_out[i - 1], token = held_out[i];
    int32_t& after = guess[static_cast<size_t>(before)];
    if (after < 0) after = counts.likeliest_after(before);
    sum.token_loss += counts.token_nll(token);
    sum.pair_loss += counts.pair_nll(before, token);
    sum.token_accuracy += token == counts.likeliest();
    sum.pair_accuracy += token == after;
  }
  const double n = static_cast<double>(std::max<size_t>(2, held_out.size()) - 1);
  return {.token_loss = sum.token_loss / n,
          .pair_loss = sum.pair_loss / n,
          .token_accuracy = sum.token_accuracy / n,
          .pair_accuracy = sum.pair_accuracy / n};
}

}  // namespace qkv
