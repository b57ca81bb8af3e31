// Typed fields of JSON objects: see json.h.
#include <fmt/format.h>

#include <cmath>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/io/json.h"

namespace qkv::io {
namespace {

// What a value is, short enough for a message.
std::string describe(const Json& json) {
  switch (json.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return json.get<bool>() ? "true" : "false";
    case Json::value_t::string:
      return "the text " + quote(json.get_ref<const std::string&>(), 40);
    case Json::value_t::array:
      return fmt::format("an array of {}", json.size());
    case Json::value_t::object:
      return "an object";
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
    case Json::value_t::number_float:
      return dump_json(json);
    default:
      return "something that JSON does not know";
  }
}

[[noreturn]] void refuse(std::string_view where, std::string_view key, std::string_view needed,
                         std::string_view got) {
  throw_error(ErrorCode::kFormat, "{}: {}: needs {}, got {}", escape(where, 4096), quote(key), needed, got);
}

// The value of a key, or null where there is none.
const Json* find(const Json& object, std::string_view key, std::string_view where) {
  QKV_CHECK(object.is_object(), kFormat, "{}: needs an object with the key {}, got {}", escape(where, 4096),
            quote(key), describe(object));
  const auto at = object.find(key);
  return at == object.end() ? nullptr : &*at;
}

const Json& need(const Json& object, std::string_view key, std::string_view needed, std::string_view where) {
  const Json* const value = find(object, key, where);
  if (value == nullptr) refuse(where, key, needed, "nothing: the key is missing");
  return *value;
}

std::string integer_range(int64_t min, int64_t max) {
  return fmt::format("an integer from {} to {}", min, max);
}

double to_number(const Json& json, double min, double max, std::string_view key, std::string_view where) {
  const double value = json.is_number() ? json.get<double>() : NAN;
  if (!(std::isfinite(value) && value >= min && value <= max))
    refuse(where, key, fmt::format("a number from {} to {}", min, max), describe(json));
  return value;
}

bool to_bool(const Json& json, std::string_view key, std::string_view where) {
  if (!json.is_boolean()) refuse(where, key, "true or false", describe(json));
  return json.get<bool>();
}

std::string to_string(const Json& json, std::string_view key, std::string_view where) {
  if (!json.is_string()) refuse(where, key, "a text", describe(json));
  return json.get<std::string>();
}

}  // namespace

bool has(const Json& object, std::string_view key, std::string_view where) {
  const Json* const value = find(object, key, where);
  return value != nullptr && !value->is_null();
}

int64_t as_int(const Json& json, int64_t min, int64_t max, std::string_view what, std::string_view where) {
  if (json.is_number_unsigned()) {
    const auto value = json.get<uint64_t>();
    if (value <= static_cast<uint64_t>(INT64_MAX) && static_cast<int64_t>(value) >= min &&
        static_cast<int64_t>(value) <= max)
      return static_cast<int64_t>(value);
  } else if (json.is_number_integer()) {
    const auto value = json.get<int64_t>();
    if (value >= min && value <= max) return value;
  } else if (json.is_number_float()) {
    // 5.0 for 5, while doubles still hold every integer: beyond 2^53 neighbours fall together.
    constexpr double kExact = 9007199254740992.0;
    const double value = json.get<double>();
    if (std::abs(value) <= kExact && value == std::trunc(value)) {
      const auto integer = static_cast<int64_t>(value);
      if (integer >= min && integer <= max) return integer;
    }
  }
  refuse(where, what, integer_range(min, max), describe(json));
}

int64_t get_int(const Json& object, std::string_view key, int64_t min, int64_t max, std::string_view where) {
  return as_int(need(object, key, integer_range(min, max), where), min, max, key, where);
}

int64_t get_int_or(const Json& object, std::string_view key, int64_t fallback, int64_t min, int64_t max,
                   std::string_view where) {
  const Json* const value = find(object, key, where);
  return value == nullptr ? fallback : as_int(*value, min, max, key, where);
}

double get_number(const Json& object, std::string_view key, double min, double max, std::string_view where) {
  return to_number(need(object, key, fmt::format("a number from {} to {}", min, max), where), min, max, key,
                   where);
}

double get_number_or(const Json& object, std::string_view key, double fallback, double min, double max,
                     std::string_view where) {
  const Json* const value = find(object, key, where);
  return value == nullptr ? fallback : to_number(*value, min, max, key, where);
}

bool get_bool(const Json& object, std::string_view key, std::string_view where) {
  return to_bool(need(object, key, "true or false", where), key, where);
}

bool get_bool_or(const Json& object, std::string_view key, bool fallback, std::string_view where) {
  const Json* const value = find(object, key, where);
  return value == nullptr ? fallback : to_bool(*value, key, where);
}

std::string get_string(const Json& object, std::string_view key, std::string_view where) {
  return to_string(need(object, key, "a text", where), key, where);
}

std::string get_string_or(const Json& object, std::string_view key, std::string_view fallback,
                          std::string_view where) {
  const Json* const value = find(object, key, where);
  return value == nullptr ? std::string(fallback) : to_string(*value, key, where);
}

const Json& get_array(const Json& object, std::string_view key, std::string_view where) {
  const Json& value = need(object, key, "an array", where);
  if (!value.is_array()) refuse(where, key, "an array", describe(value));
  return value;
}

const Json& get_object(const Json& object, std::string_view key, std::string_view where) {
  const Json& value = need(object, key, "an object", where);
  if (!value.is_object()) refuse(where, key, "an object", describe(value));
  return value;
}

}  // namespace qkv::io
