#pragma once
// The words of attention variants (variant.h) and what makes each: one entry a word.

#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "qkv/attention/variant.h"

namespace qkv {

/// What a word is made with.
struct WordUse {
  AttentionParts& parts;  // gets it
  const VariantPlace& at;
  std::span<const double> n;  // the word's numbers, each what WordNumber allows
};

/// A number that may follow a word: what it is called where the word is explained, and what it can be.
struct WordNumber {
  std::string_view name;               // "N", "BASE"
  std::optional<double> initial = {};  // where it is not given; without one it has to be
  bool whole = false;
  double above = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
};

struct WordEntry {
  AttentionWord::Kind kind;
  std::string_view name, meaning;
  void (*add)(const WordUse& use);
  std::vector<WordNumber> numbers = {};  // those that have to be given first
};
const std::vector<WordEntry>& word_entries();

}  // namespace qkv
