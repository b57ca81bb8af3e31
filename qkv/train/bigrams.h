#pragma once
// What counting alone predicts: the bar that a language model has to clear.

#include <cstdint>
#include <span>
#include <vector>

namespace qkv {

/// Counts of tokens and of pairs of neighbours in a text.
class Bigrams {
 public:
  /// Ids below vocab_size. O(n log n) time, 8 bytes a token.
  Bigrams(std::span<const int32_t> ids, int64_t vocab_size);

  /// -log p(token), from (count + 1) / (n + vocab_size).
  double token_nll(int32_t token) const;
  /// -log p(token | before): interpolated Kneser-Ney smoothing (Chen and Goodman 1999, "An empirical study of
  /// smoothing techniques for language modeling", section 3) with the discount D = n1 / (n1 + 2 n2) of pairs
  /// seen once and twice,
  ///   p(w | v) = (max(c(v w) - D, 0) + D N(v .) P(w)) / c(v .),  P(w) = (N(. w) + 1) / (N(. .) + vocab_size)
  /// where N counts different neighbours; P(w) where v was never seen.
  double pair_nll(int32_t before, int32_t token) const;

  int32_t likeliest() const { return likeliest_; }
  int32_t likeliest_after(int32_t before) const;

 private:
  struct Successor {
    int32_t token;
    int64_t count;
  };
  std::span<const Successor> after(int32_t before) const;
  double continuation(int32_t token) const;
  double pair_probability(int32_t before, int32_t token) const;

  int64_t vocab_size_, n_tokens_, n_pairs_;  // n_pairs_: different ones
  double discount_;
  std::vector<int64_t> counts_, predecessors_;  // of each token; predecessors: different ones
  std::vector<Successor> successors_;           // of all tokens, by token, each with ascending successors
  std::vector<int64_t> begin_, total_;          // of each token's successors; their counts' sum
  int32_t likeliest_, likeliest_continuation_;
};

/// How well counts of one text predict another: mean -log p and share of tokens guessed right, by frequency
/// alone and from the token before. The first 2^24 tokens of `training` are counted; all of `held_out` but
/// its first token are predicted.
struct CountingBaseline {
  double token_loss = 0, pair_loss = 0;
  double token_accuracy = 0, pair_accuracy = 0;
};
CountingBaseline counting_baseline(std::span<const int32_t> training, std::span<const int32_t> held_out,
                                   int64_t vocab_size);

}  // namespace qkv
