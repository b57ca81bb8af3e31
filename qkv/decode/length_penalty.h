#pragma once
// How hypotheses of different lengths compare.

#include <cstdint>
#include <span>

namespace qkv::decode {

/// A longer hypothesis multiplies more probabilities below one, so the plain product prefers short sentences.
/// The score divides it out:
///
///     score(Y) = log P(Y | X) / lp(|Y|) + beta * sum_i log(min(sum_j p_ij, 1))
///
///     kLength   lp(n) = n^alpha               fairseq, Marian, Hugging Face; alpha 1 is the mean over tokens
///     kGnmt     lp(n) = ((5 + n) / 6)^alpha   Wu et al. 2016, arXiv:1609.08144, eq. 14; they use 0.6 to 0.7
///
/// |Y| counts the eos. The second term is the coverage penalty of the same equation: p_ij is the attention of
/// target token j on source token i, so a source token that nothing looked at costs. Every score is <= 0.
enum class LengthPenaltyKind { kLength, kGnmt };

/// The largest |alpha| and beta: with them every score of up to 10^12 tokens is a finite number.
constexpr double kMostLengthPenalty = 20, kMostCoveragePenalty = 1e6;

struct SearchOptions;

/// lp(length), length >= 1.
double length_penalty(LengthPenaltyKind kind, double alpha, int64_t length);

/// sum_i log(min(covered_i, 1)), covered_i = sum_j p_ij. Sums below 1e-6 count as 1e-6: a weight that
/// underflowed to zero should be a bad sign for a hypothesis, not its end.
double coverage_penalty(std::span<const double> covered);

/// The first term of the score.
double normalized(double log_prob, int64_t length, const SearchOptions& options);

/// No continuation of a hypothesis can score higher: with log_prob after `length` tokens, more tokens only
/// lower log_prob, coverage costs at best nothing, and log_prob / lp(n) is monotone in n, so its best is at
/// one of the ends of length + 1 .. max_length.
double best_possible_score(double log_prob, int64_t length, int64_t max_length, const SearchOptions& options);

}  // namespace qkv::decode
