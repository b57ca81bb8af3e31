#include "qkv/base/nearest.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"

namespace qkv {
namespace {

// Levenshtein distance, row by row.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t least = std::max(std::min<size_t>(2, word.size() / 2), word.size() / 3) + 1;
  for (const std::string& candidate : candidates)
    if (const size_t d = distance(word, candidate); d < least) {
      least = d;
      best = candidate;
    }
  return best;
}

void check_known(std::string_view kind, std::string_view name, const std::vector<std::string_view>& known,
                 std::string_view where) {
  if (std::find(known.begin(), known.end(), name) != known.end()) return;
  const std::string near = nearest(name.substr(0, 64), {known.begin(), known.end()});
  throw_error(ErrorCode::kValue, "{}: no {} is called {}{}; there are {}", where, kind, quote(name, 64),
              near.empty() ? "" : "; did you mean " + near + "?", fmt::join(known, ", "));
}

}  // namespace qkv
