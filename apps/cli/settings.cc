#include "apps/cli/settings.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>

#include "qkv/base/error.h"
#include "qkv/base/nearest.h"
#include "qkv/base/quote.h"
#include "qkv/io/file.h"
#include "qkv/io/json.h"

namespace qkv::cli {
namespace {

constexpr int64_t kMaxSettingsBytes = 1 << 20;
constexpr int kMostBases = 8;
constexpr int64_t kPathInMessage = 4096;
constexpr int64_t kMostDots = 100;  // in a line

std::string flag_of(const std::string& key) {
  std::string flag = "--" + key;
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

// The parser recurses once for each part of a dotted key, without a limit.
void check_dots(const std::string& text, const std::string& path) {
  int64_t line = 1, dots = 0;
  for (char c : text) {
    if (c == '\n') {
      ++line;
      dots = 0;
    }
    QKV_CHECK(c != '.' || ++dots <= kMostDots, kFormat, "{}: line {}: more than {} dots", path, line,
              kMostDots);
  }
}

template <class T>
T parse_number(const std::string& text, const std::string& where, const char* kind) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  QKV_CHECK(error == std::errc() && end == text.data() + text.size(), kValue, "{}: '{}' is not {}", where,
            escape(text), kind);
  return value;
}

double parse_finite(const std::string& text, const std::string& where) {
  const double value = parse_number<double>(text, where, "a number");
  QKV_CHECK(std::isfinite(value), kValue, "{}: '{}' is not finite", where, escape(text));
  return value;
}

constexpr const char* kSwitch = "true|false";

bool parse_bool(const std::string& text, const std::string& where) {
  QKV_CHECK(text == "true" || text == "false", kValue, "{}: '{}' is neither true nor false", where,
            escape(text));
  return text == "true";
}

std::string toml_number(double value) {
  return fmt::format("{}{}", value, value == std::floor(value) && std::abs(value) < 1e15 ? ".0" : "");
}

std::string toml_bool(bool value) { return value ? "true" : "false"; }

std::string toml_string(const std::string& text) {
  return io::dump_json(io::Json(text));
}  // JSON strings are TOML strings

}  // namespace

void Settings::add(const std::string& section, const std::string& key, std::string& field,
                   const std::string& help) {
  settings_.push_back({section, key, help, "TEXT",
                       [&field](const std::string& text, const std::string&) { field = text; },
                       [&field] { return toml_string(field); }, field});
}

void Settings::add(const std::string& section, const std::string& key, int64_t& field,
                   const std::string& help) {
  settings_.push_back({section, key, help, "INT",
                       [&field](const std::string& text, const std::string& where) {
                         field = parse_number<int64_t>(text, where, "a whole number");
                       },
                       [&field] { return fmt::format("{}", field); }, fmt::format("{}", field)});
}

void Settings::add(const std::string& section, const std::string& key, double& field,
                   const std::string& help) {
  settings_.push_back(
      {section, key, help, "NUMBER",
       [&field](const std::string& text, const std::string& where) { field = parse_finite(text, where); },
       [&field] { return toml_number(field); }, fmt::format("{}", field)});
}

void Settings::add(const std::string& section, const std::string& key, bool& field, const std::string& help) {
  settings_.push_back(
      {section, key, help, kSwitch,
       [&field](const std::string& text, const std::string& where) { field = parse_bool(text, where); },
       [&field] { return toml_bool(field); }, toml_bool(field)});
}

void Settings::add(const std::string& section, const std::string& key, std::optional<double>& field,
                   const std::string& help, const std::string& otherwise) {
  settings_.push_back(
      {section, key, help, "NUMBER",
       [&field](const std::string& text, const std::string& where) { field = parse_finite(text, where); },
       [&field] { return field ? toml_number(*field) : ""; }, otherwise});
}

void Settings::add(const std::string& section, const std::string& key, std::optional<int64_t>& field,
                   const std::string& help, const std::string& otherwise) {
  settings_.push_back({section, key, help, "INT",
                       [&field](const std::string& text, const std::string& where) {
                         field = parse_number<int64_t>(text, where, "a whole number");
                       },
                       [&field] { return field ? fmt::format("{}", *field) : ""; }, otherwise});
}

void Settings::add(const std::string& section, const std::string& key, std::optional<bool>& field,
                   const std::string& help, const std::string& otherwise) {
  settings_.push_back(
      {section, key, help, kSwitch,
       [&field](const std::string& text, const std::string& where) { field = parse_bool(text, where); },
       [&field] { return field ? toml_bool(*field) : ""; }, otherwise});
}

void Settings::bind(CLI::App& app) {
  for (const Setting& s : settings_) {
    CLI::Option* option = app.add_option_function<std::string>(
        flag_of(s.key), [this, key = s.key](const std::string& text) { flags_[key] = text; }, s.help);
    if (s.kind == kSwitch) option->expected(0, 1)->default_str("true");
    option->type_name(s.shown_default.empty() ? s.kind : s.kind + " [" + s.shown_default + "]")
        ->group(s.section)
        ->take_last();
  }
}

void Settings::give(const std::string& key, const std::string& text) {
  std::vector<std::string_view> known;
  for (const Setting& s : settings_) known.push_back(s.key);
  check_known("setting", key, known, "settings");
  flags_[key] = text;
}

void Settings::load(const std::string& path) {
  if (!path.empty()) load_file(path, 0);
  for (const Setting& s : settings_)
    if (const auto flag = flags_.find(s.key); flag != flags_.end()) {
      const std::string before = s.toml();
      s.set(flag->second, flag_of(s.key));
      if (in_file_.contains(s.key) && s.toml() != before)
        changes_.push_back(fmt::format("{} {} -> {}", s.key, before, s.toml()));
    }
}

void Settings::load_file(const std::string& path, int depth) {
  const std::string where = escape(path, kPathInMessage);  // a base is named by a file
  QKV_CHECK(depth < kMostBases, kFormat,
            "{}: more than {} files build on one another; does one name itself as base?", where, kMostBases);
  const std::string text = io::read_file(path, kMaxSettingsBytes);
  check_dots(text, where);
  toml::table file;
  try {
    file = toml::parse(text, path);
  } catch (const toml::parse_error& e) {
    throw_error(ErrorCode::kFormat, "{}: line {}: {}", where, e.source().begin.line, escape(e.description()));
  }
  if (const toml::node* base = file.get("base")) {
    QKV_CHECK(base->is_string(), kFormat,
              "{}: base needs to be the path of another settings file, relative to this one", where);
    load_file((std::filesystem::path(path).parent_path() / base->as_string()->get()).string(), depth + 1);
    file.erase("base");
  }
  if (const toml::node* task = file.get("task")) {
    QKV_CHECK(task->is_string() && task->as_string()->get() == task_, kFormat,
              "{}: these are settings of another task ({}), not of {}", where,
              task->is_string() ? quote(task->as_string()->get()) : "no text", task_);
    file.erase("task");
  }
  for (const auto& [section, node] : file) {
    const toml::table* table = node.as_table();
    QKV_CHECK(
        table != nullptr, kFormat,
        "{}: '{}' stands outside a section; settings stand under [data], [vocabulary], [model] or [training]",
        where, escape(section.str()));
    for (const auto& [key, value] : *table)
      set_from_file(path, fmt::format("{}.{}", section.str(), key.str()), value);
  }
}

void Settings::set_from_file(const std::string& path, const std::string& name, const toml::node& value) {
  const auto setting = std::find_if(settings_.begin(), settings_.end(),
                                    [&](const Setting& s) { return s.section + "." + s.key == name; });
  if (setting == settings_.end()) {
    std::vector<std::string> names;
    for (const Setting& s : settings_) names.push_back(s.section + "." + s.key);
    const std::string hint = nearest(name, names);
    throw_error(ErrorCode::kFormat, "{}: no setting is called {}{}", escape(path, kPathInMessage),
                escape(name), hint.empty() ? "" : "; did you mean " + hint + "?");
  }
  const std::string where = escape(path, kPathInMessage) + ": " + escape(name);
  in_file_.insert(setting->key);
  if (const auto* text = value.as_string())
    setting->set(text->get(), where);
  else if (const auto* integer = value.as_integer())
    setting->set(fmt::format("{}", integer->get()), where);
  else if (const auto* number = value.as_floating_point())
    setting->set(fmt::format("{}", number->get()), where);
  else if (const auto* boolean = value.as_boolean())
    setting->set(boolean->get() ? "true" : "false", where);
  else
    throw_error(ErrorCode::kFormat, "{}: needs to be {}", where, setting->kind);
}

std::string Settings::to_toml() const {
  std::string section, out = task_.empty() ? "" : fmt::format("task = {}\n", toml_string(task_));
  for (const Setting& s : settings_) {
    if (s.section != section) {
      section = s.section;
      out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", section);
    }
    if (const std::string value = s.toml(); !value.empty()) out += fmt::format("{} = {}\n", s.key, value);
  }
  return out;
}

}  // namespace qkv::cli
