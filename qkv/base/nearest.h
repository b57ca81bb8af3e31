#pragma once
// "Did you mean ...?"

#include <string>
#include <string_view>
#include <vector>

namespace qkv {

/// The candidate nearest to `word`, or "": the Levenshtein distance may be a third of the word's length, or
/// up to 2 where that is at most half of it.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

/// Error kValue unless `name` is one of `known`: "<where>: no <kind> is called ..." with the nearest and the
/// list.
void check_known(std::string_view kind, std::string_view name, const std::vector<std::string_view>& known,
                 std::string_view where);

}  // namespace qkv
