#include "qkv/decode/length_penalty.h"

#include <algorithm>
#include <cmath>

#include "qkv/decode/search_options.h"

namespace qkv::decode {

double length_penalty(LengthPenaltyKind kind, double alpha, int64_t length) {
  const double n = static_cast<double>(length);
  return std::pow(kind == LengthPenaltyKind::kGnmt ? (5 + n) / 6 : n, alpha);
}

double coverage_penalty(std::span<const double> covered) {
  double sum = 0;
  for (const double c : covered) sum += std::log(std::clamp(c, 1e-6, 1.0));
  return sum;
}

double normalized(double log_prob, int64_t length, const SearchOptions& options) {
  return log_prob / length_penalty(options.length_penalty_kind, options.length_penalty, length);
}

double best_possible_score(double log_prob, int64_t length, int64_t max_length,
                           const SearchOptions& options) {
  return std::max(normalized(log_prob, length + 1, options),
                  normalized(log_prob, std::max(length + 1, max_length), options));
}

}  // namespace qkv::decode
