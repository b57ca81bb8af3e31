// Scores by name.

#include <fmt/ranges.h>

#include <algorithm>

#include "qkv/attention/scores.h"
#include "qkv/base/nearest.h"
#include "qkv/base/quote.h"

namespace qkv {
namespace {

struct Entry {
  std::string_view name;
  ScorePtr (*make)(ParameterSet& set, const std::string& prefix, const HeadSizes& heads);
};

const Entry kScores[] = {
    {"scaled_dot", [](ParameterSet&, const std::string&, const HeadSizes&) { return scaled_dot(); }},
    {"dot", [](ParameterSet&, const std::string&, const HeadSizes&) { return dot(); }},
    {"cosine", [](ParameterSet& set, const std::string&,
                  const HeadSizes& heads) { return cosine(heads, set.dtype()); }},
    {"qk_norm", [](ParameterSet& set, const std::string& prefix,
                   const HeadSizes& heads) { return qk_norm(set, prefix, heads); }},
    {"general", general},
    {"additive", additive},
    {"mlp", [](ParameterSet& set, const std::string& prefix,
               const HeadSizes& heads) { return mlp(set, prefix, heads); }},
    {"uniform", [](ParameterSet&, const std::string&, const HeadSizes&) { return uniform(); }},
};

}  // namespace

const std::vector<std::string_view>& score_names() {
  static const std::vector<std::string_view> names = [] {
    std::vector<std::string_view> all;
    for (const Entry& e : kScores) all.push_back(e.name);
    return all;
  }();
  return names;
}

void check_score_name(std::string_view name, std::string_view where) {
  const std::vector<std::string> known(score_names().begin(), score_names().end());
  if (std::find(known.begin(), known.end(), name) != known.end()) return;
  const std::string near = nearest(name.substr(0, 64), known);
  throw_error(ErrorCode::kValue, "{}: no score is called {}{}; there are {}", where, quote(name, 64),
              near.empty() ? "" : "; did you mean " + near + "?", fmt::join(known, ", "));
}

ScorePtr make_score(std::string_view name, ParameterSet& set, const std::string& prefix,
                    const HeadSizes& heads) {
  check_score_name(name, "attention");
  return std::find_if(std::begin(kScores), std::end(kScores), [&](const Entry& e) { return e.name == name; })
      ->make(set, prefix, heads);
}

}  // namespace qkv
