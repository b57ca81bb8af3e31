#pragma once
// Strict JSON (RFC 8259) over nlohmann-json, and typed access to the fields of a config.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace qkv::io {

using Json = nlohmann::json;

/// What a text may cost. The defaults hold every tokenizer.json and config.json we know.
struct JsonLimits {
  int64_t max_depth = 128;              // nested arrays and objects
  int64_t max_string_bytes = 16 << 20;  // one string as written, or a stretch without string or number
  int64_t max_memory = 192 << 20;       // of the parsed values, estimated; with a 64 MiB text under 256 MiB
};

/// Parses `text`; `where` (a path, mostly) begins every message, then line, column and byte.
/// Refused beyond plain syntax errors: duplicate keys however they are escaped, bytes that are not UTF-8, a
/// byte-order mark, NaN and Infinity, numbers past a double (1e400), comments, anything after the value,
/// a NUL byte, nesting deeper than max_depth. No recursion: neither parsing nor destroying uses the stack.
/// Throws Error kFormat.
Json parse_json(std::string_view text, std::string_view where, const JsonLimits& limits = {});

/// parse_json of a file of at most max_bytes. Error kIo or kFormat.
Json read_json(const std::string& path, int64_t max_bytes = 64 << 20, const JsonLimits& limits = {});

/// `json` as text; indent < 0 gives one line. Bytes that are not UTF-8 become U+FFFD instead of throwing.
/// Keys come out sorted, so equal values give equal bytes.
std::string dump_json(const Json& json, int indent = -1);

// Typed fields of an object. Each throws Error kFormat naming `where`, the key, what was needed and what was
// there: `config.json: "n_heads": needs an integer from 1 to 1024, got "eight"`. The forms ending in _or give
// `fallback` where the key is absent; null is a value and refused: ask has() first where a format lets null
// stand for absent.

/// The key is there and not null. Error kFormat where `object` is not an object.
bool has(const Json& object, std::string_view key, std::string_view where);

/// An integer in [min, max]. 5.0 may stand for 5; 5.5, "5", true and null may not.
int64_t get_int(const Json& object, std::string_view key, int64_t min, int64_t max, std::string_view where);
int64_t get_int_or(const Json& object, std::string_view key, int64_t fallback, int64_t min, int64_t max,
                   std::string_view where);

/// A finite number in [min, max].
double get_number(const Json& object, std::string_view key, double min, double max, std::string_view where);
double get_number_or(const Json& object, std::string_view key, double fallback, double min, double max,
                     std::string_view where);

bool get_bool(const Json& object, std::string_view key, std::string_view where);
bool get_bool_or(const Json& object, std::string_view key, bool fallback, std::string_view where);

std::string get_string(const Json& object, std::string_view key, std::string_view where);
std::string get_string_or(const Json& object, std::string_view key, std::string_view fallback,
                          std::string_view where);

/// A nested array or object, in place.
const Json& get_array(const Json& object, std::string_view key, std::string_view where);
const Json& get_object(const Json& object, std::string_view key, std::string_view where);

/// `json` itself as an integer in [min, max] (for elements of arrays); `what` names it in the message.
int64_t as_int(const Json& json, int64_t min, int64_t max, std::string_view what, std::string_view where);

}  // namespace qkv::io
