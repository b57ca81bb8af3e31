// Scores by name.

#include <algorithm>

#include "qkv/attention/scores.h"

namespace qkv {
namespace {

struct Entry {
  std::string_view name;
  ScorePtr (*make)(ParameterSet& set, const std::string& prefix, const HeadSizes& heads);
};

const Entry kScores[] = {
    {"scaled_dot", [](ParameterSet&, const std::string&, const HeadSizes&) { return scaled_dot(); }},
    {"dot", [](ParameterSet&, const std::string&, const HeadSizes&) { return dot(); }},
    {"general", general},
    {"additive", additive},
    {"mlp", [](ParameterSet& set, const std::string& prefix,
               const HeadSizes& heads) { return mlp(set, prefix, heads); }},
    {"uniform", [](ParameterSet&, const std::string&, const HeadSizes&) { return uniform(); }},
};

// Levenshtein distance, row by row.
size_t edits_between(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

const std::vector<std::string_view>& score_names() {
  static const std::vector<std::string_view> names = [] {
    std::vector<std::string_view> all;
    for (const Entry& e : kScores) all.push_back(e.name);
    return all;
  }();
  return names;
}

ScorePtr make_score(std::string_view name, ParameterSet& set, const std::string& prefix,
                    const HeadSizes& heads) {
  for (const Entry& e : kScores)
    if (e.name == name) return e.make(set, prefix, heads);
  std::string all;
  std::string_view nearest = kScores[0].name;
  const std::string_view asked = name.substr(0, 64);
  for (std::string_view known : score_names()) {
    all += (all.empty() ? "" : ", ") + std::string(known);
    if (edits_between(asked, known) < edits_between(asked, nearest)) nearest = known;
  }
  throw_error(ErrorCode::kValue, "attention: no score is called \"{}\"; did you mean {}? There are {}", asked,
              nearest, all);
}

}  // namespace qkv
