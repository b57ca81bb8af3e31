#include "apps/cli/settings.h"

#include <fmt/core.h>
#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

#include "qkv/base/error.h"
#include "qkv/base/nearest.h"
#include "qkv/io/file.h"
#include "qkv/io/json.h"

namespace qkv::cli {
namespace {

constexpr int64_t kMaxSettingsBytes = 1 << 20;

std::string flag_of(const std::string& key) {
  std::string flag = "--" + key;
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

template <class T>
T parse_number(const std::string& text, const std::string& where, const char* kind) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  QKV_CHECK(error == std::errc() && end == text.data() + text.size(), kValue, "{}: '{}' is not {}", where,
            text, kind);
  return value;
}

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
  settings_.push_back({section, key, help, "NUMBER",
                       [&field](const std::string& text, const std::string& where) {
                         field = parse_number<double>(text, where, "a number");
                         QKV_CHECK(std::isfinite(field), kValue, "{}: '{}' is not finite", where, text);
                       },
                       [&field] {
                         return fmt::format("{}{}", field,
                                            field == std::floor(field) && std::abs(field) < 1e15 ? ".0" : "");
                       },
                       fmt::format("{}", field)});
}

void Settings::add(const std::string& section, const std::string& key, bool& field, const std::string& help) {
  settings_.push_back({section, key, help, "true|false",
                       [&field](const std::string& text, const std::string& where) {
                         QKV_CHECK(text == "true" || text == "false", kValue,
                                   "{}: '{}' is neither true nor false", where, text);
                         field = text == "true";
                       },
                       [&field] { return field ? "true" : "false"; }, field ? "true" : "false"});
}

void Settings::bind(CLI::App& app) {
  for (const Setting& s : settings_) {
    CLI::Option* option = app.add_option_function<std::string>(
        flag_of(s.key), [this, key = s.key](const std::string& text) { flags_[key] = text; }, s.help);
    option->type_name(s.shown_default.empty() ? s.kind : s.kind + " [" + s.shown_default + "]")
        ->group(s.section)
        ->take_last();
  }
}

void Settings::load(const std::string& path) {
  if (!path.empty()) {
    const std::string text = io::read_file(path, kMaxSettingsBytes);
    toml::table file;
    try {
      file = toml::parse(text, path);
    } catch (const toml::parse_error& e) {
      throw_error(ErrorCode::kFormat, "{}: line {}: {}", path, e.source().begin.line, e.description());
    }
    std::vector<std::string> names;
    for (const Setting& s : settings_) names.push_back(s.section + "." + s.key);
    for (const auto& [section, node] : file) {
      const toml::table* table = node.as_table();
      QKV_CHECK(table != nullptr, kFormat,
                "{}: '{}' stands outside a section; settings stand under [data], [vocabulary], [model] or "
                "[training]",
                path, std::string(section.str()));
      for (const auto& [key, value] : *table) {
        const std::string name = fmt::format("{}.{}", section.str(), key.str()), where = path + ": " + name;
        const auto setting = std::find_if(settings_.begin(), settings_.end(),
                                          [&](const Setting& s) { return s.section + "." + s.key == name; });
        if (setting == settings_.end()) {
          const std::string hint = nearest(name, names);
          throw_error(ErrorCode::kFormat, "{}: no setting is called {}{}", path, name,
                      hint.empty() ? "" : "; did you mean " + hint + "?");
        }
        if (value.is_string()) {
          setting->set(value.as_string()->get(), where);
        } else if (value.is_integer() || value.is_floating_point() || value.is_boolean()) {
          std::ostringstream printed;
          if (value.is_floating_point())
            printed << fmt::format("{}", value.as_floating_point()->get());
          else
            value.visit([&](const auto& leaf) {
              if constexpr (toml::is_value<decltype(leaf)>) printed << std::boolalpha << leaf.get();
            });
          setting->set(printed.str(), where);
        } else {
          throw_error(ErrorCode::kFormat, "{}: needs to be {}", where, setting->kind);
        }
      }
    }
  }
  for (const Setting& s : settings_)
    if (const auto flag = flags_.find(s.key); flag != flags_.end()) s.set(flag->second, flag_of(s.key));
}

std::string Settings::to_toml() const {
  std::string out, section;
  for (const Setting& s : settings_) {
    if (s.section != section) {
      section = s.section;
      out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", section);
    }
    out += fmt::format("{} = {}\n", s.key, s.toml());
  }
  return out;
}

}  // namespace qkv::cli
