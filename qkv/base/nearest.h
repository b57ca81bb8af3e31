#pragma once
// "Did you mean ...?"

#include <string>
#include <string_view>
#include <vector>

namespace qkv {

/// The candidate nearest to `word` (Levenshtein distance of at most a third of the word's length, at least 2
/// allowed), or "".
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace qkv
