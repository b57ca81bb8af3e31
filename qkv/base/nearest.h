#pragma once
// "Did you mean ...?"

#include <string>
#include <string_view>
#include <vector>

namespace qkv {

/// The candidate nearest to `word` (Levenshtein distance of at most a third of the word's length, at least 2
/// allowed), or "".
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

/// Error kValue unless `name` is one of `known`: "<where>: no <kind> is called ..." with the nearest and the
/// list.
void check_known(std::string_view kind, std::string_view name, const std::vector<std::string_view>& known,
                 std::string_view where);

}  // namespace qkv
