#pragma once
// The algorithm of byte-pair encoding, on words that are sequences of numbers.

#include <cstdint>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace qkv::text {

/// A word of the training text and how often it occurs.
struct CountedWord {
  std::vector<int32_t> symbols;  // indices of pieces
  int64_t count = 0;
};

struct LearnerOptions {
  int64_t max_pieces = 0;                     // learning ends at this many
  int64_t min_frequency = 1;                  // or where the best pair is rarer than this
  int64_t max_piece_length = 0;               // in characters; 0: any
  std::unordered_set<std::string> forbidden;  // pieces that no merge may make
};

/// Appends a new piece for each merge to `pieces` (which holds the alphabet) and returns the merges in order.
///
/// Takes the pair with the highest count, of equals the one whose pieces are lexicographically smaller,
/// bytewise: the result depends on the words and counts alone. Two merges can give the same piece ("ab"+"c",
/// "a"+"bc"); it is then there once, with two merges. A count is that of all neighbours, overlapping ones too
/// ("aaa" has two).
///
/// Only the words that hold the pair are visited, and only the counts beside it change; a queue finds the
/// best pair. Its entries can be out of date, which is seen when they come out.
std::vector<std::pair<int32_t, int32_t>> learn_merges(std::vector<CountedWord> words,
                                                      std::vector<std::string>& pieces,
                                                      const LearnerOptions& options);

}  // namespace qkv::text
