#include "apps/cli/did_you_mean.h"

#include <algorithm>
#include <numeric>

namespace qkv::cli {
namespace {

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

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(sub->get_name());
  return names;
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* level = &app; level != nullptr; level = level->get_parent())
    for (const CLI::Option* option : level->get_options())
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

std::string suggestion(std::string_view word, const std::vector<std::string>& names) {
  if (std::find(names.begin(), names.end(), word) != names.end()) return "";
  const std::string best = nearest(word, names);
  return best.empty() ? "" : "Did you mean " + best + "?";
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t least = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates)
    if (const size_t d = distance(word, candidate); d < least) {
      least = d;
      best = candidate;
    }
  return best;
}

std::string did_you_mean(const CLI::App& app, int argc, char** argv) {
  const CLI::App* level = &app;
  bool value_follows = false;  // the word after an option may be its value
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word.starts_with("--")) {
      const std::string_view name = word.substr(0, word.find('='));
      if (std::string s = suggestion(name, option_names(*level)); !s.empty()) return s;
      value_follows = true;
    } else if (!word.starts_with('-')) {
      const auto names = command_names(*level);
      const auto known = std::find(names.begin(), names.end(), word);
      if (known != names.end()) {
        level = level->get_subcommand(*known);
      } else if (!value_follows && !names.empty()) {
        if (std::string s = suggestion(word, names); !s.empty()) return s;
      }
      value_follows = false;
    }
  }
  return "";
}

}  // namespace qkv::cli
