#include "apps/cli/did_you_mean.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "qkv/base/nearest.h"

namespace qkv::cli {
namespace {

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

// "--ref a b": the shell's `*` gives such calls, but b could as well be meant for another flag.
std::string unexpected(const CLI::App& app, const CLI::App& level, int argc, char** argv) {
  const std::vector<std::string> extras = app.remaining(/*recurse=*/true);
  if (extras.empty() || extras.front().starts_with('-')) return "";
  const auto extra = std::find(argv + 1, argv + argc, extras.front());
  auto flag = extra;
  while (flag > argv + 1 && !std::string_view(*flag).starts_with('-')) --flag;
  if (extra - flag < 2 || extra == argv + argc) return "";
  const CLI::Option* option = level.get_option_no_throw(*flag);
  if (option == nullptr || option->get_items_expected_max() < 2) return "";
  return fmt::format("{0} takes one value; give it again for each further one: {0} {1} {0} {2}", *flag,
                     *(flag + 1), *extra);
}

}  // namespace

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

std::string message_of(const CLI::ParseError& error, const CLI::App& app, int argc, char** argv) {
  const CLI::App* level = &app;
  while (!level->get_subcommands().empty()) level = level->get_subcommands().back();
  const std::string_view text = error.what();
  if (text.starts_with("A subcommand is required")) {
    const std::string names = fmt::format("{}", fmt::join(command_names(*level), ", "));
    return level == &app ? "what to do? One of " + names
                         : fmt::format("{} needs one of these after it: {}", level->get_name(), names);
  }
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError))
    if (std::string why = unexpected(app, *level, argc, argv); !why.empty()) return why;
  return error.what();
}

}  // namespace qkv::cli
