#pragma once
// The words of attention variants (variant.h) and what makes each: one entry a word.

#include <span>
#include <vector>

#include "qkv/attention/variant.h"

namespace qkv {

/// What a word is made with.
struct WordUse {
  AttentionParts& parts;  // gets it
  const VariantPlace& at;
  std::span<const double> n;  // the word's numbers, those not given filled with their defaults
};

struct WordEntry {
  AttentionWord word;
  void (*add)(const WordUse& use);
  int64_t needed = 0;            // so many numbers have to be given ...
  std::vector<double> defaults;  // ... and so many more may be
};
const std::vector<WordEntry>& word_entries();

}  // namespace qkv
