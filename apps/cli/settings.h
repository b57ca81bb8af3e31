#pragma once
// Settings that can stand in a TOML file and on the command line: one table of them makes the flags, reads
// the file, and writes the complete file of a run.

#include <toml++/toml.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace qkv::cli {

/// Each setting is section.key in a file and --key (with - for _) on the command line. A flag beats the file,
/// the file beats the default. Errors: kValue for a value that does not fit, kFormat for a key that the file
/// misspells, with the nearest one.
class Settings {
 public:
  /// `task`: what the settings are of. It stands first in what to_toml() gives, and files of another are
  /// refused.
  explicit Settings(std::string task = "") : task_(std::move(task)) {}

  void add(const std::string& section, const std::string& key, std::string& field, const std::string& help);
  void add(const std::string& section, const std::string& key, int64_t& field, const std::string& help);
  void add(const std::string& section, const std::string& key, double& field, const std::string& help);
  void add(const std::string& section, const std::string& key, bool& field, const std::string& help);
  /// Without a value until one is given: `otherwise` says in the help what then holds.
  void add(const std::string& section, const std::string& key, std::optional<double>& field,
           const std::string& help, const std::string& otherwise);
  void add(const std::string& section, const std::string& key, std::optional<int64_t>& field,
           const std::string& help, const std::string& otherwise);
  void add(const std::string& section, const std::string& key, std::optional<bool>& field,
           const std::string& help, const std::string& otherwise);

  /// Makes a flag of each setting; one of true and false may stand alone, for true. Call once, after all
  /// add().
  void bind(CLI::App& app);
  /// Reads the file (if `path` is not empty), then applies the flags that were given. A line `base =
  /// "other.toml"` before the sections reads that file first, found relative to this one: a recipe states
  /// only what differs.
  void load(const std::string& path);
  /// All settings that have a value, as TOML.
  std::string to_toml() const;
  /// As if the flag had been given: before load(). Error kValue: no setting is called so.
  void give(const std::string& key, const std::string& text);
  /// The flags that were given, by key.
  const std::map<std::string, std::string>& flags() const { return flags_; }
  /// Whether section.key was given as a flag: such paths mean what they say, not something under the data
  /// folder.
  bool from_flag(const std::string& key) const { return flags_.contains(key); }
  /// Whether it was given at all, by flag or file.
  bool given(const std::string& key) const { return from_flag(key) || in_file_.contains(key); }
  /// Where a flag gave another value than the file: "lr 0.001 -> 0.5".
  const std::vector<std::string>& changes() const { return changes_; }

 private:
  void load_file(const std::string& path, int depth);
  void set_from_file(const std::string& path, const std::string& name, const toml::node& value);

  struct Setting {
    std::string section, key, help, kind;
    std::function<void(const std::string& text, const std::string& where)> set;
    std::function<std::string()> toml;
    std::string shown_default;
  };
  std::string task_;
  std::vector<Setting> settings_;
  std::map<std::string, std::string> flags_;  // key -> text, as given
  std::set<std::string> in_file_;             // keys
  std::vector<std::string> changes_;
};

}  // namespace qkv::cli
