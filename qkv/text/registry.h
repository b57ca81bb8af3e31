#pragma once
// How a part of a tokenizer.json ({"type": "NFC"}, ...) finds the code that makes it.

#include <fmt/ranges.h>

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/io/json.h"

namespace qkv::text {

/// One line of a kind's registry: to add a normalizer, write its file and such a line in
/// normalizers/registry.cc.
template <class Part>
struct Maker {
  std::string_view type;
  std::unique_ptr<const Part> (*make)(const io::Json& json, const std::string& where);
};

/// The part that `json` describes. Error kFormat without a "type", kUnsupported for one that has no maker.
template <class Part>
std::unique_ptr<const Part> make_part(std::span<const Maker<Part>> makers, const io::Json& json,
                                      const std::string& where) {
  const std::string type = io::get_string(json, "type", where);
  std::vector<std::string_view> known;
  for (const auto& maker : makers) {
    if (maker.type == type) return maker.make(json, where + ": " + type);
    known.push_back(maker.type);
  }
  throw_error(ErrorCode::kUnsupported, "{}: unknown type {}; qkv knows {}", where, quote(type),
              fmt::join(known, ", "));
}

/// The parts of a Sequence: json[key], in order. How deep sequences nest is bounded by the depth of the JSON.
template <class Part>
std::vector<std::unique_ptr<const Part>> make_parts(const io::Json& json, std::string_view key,
                                                    const std::string& where,
                                                    std::unique_ptr<const Part> (*make)(const io::Json&,
                                                                                        const std::string&)) {
  std::vector<std::unique_ptr<const Part>> out;
  for (const io::Json& one : io::get_array(json, key, where)) out.push_back(make(one, where));
  return out;
}

template <class Part>
io::Json parts_to_json(const std::vector<std::unique_ptr<const Part>>& parts) {
  io::Json out = io::Json::array();
  for (const auto& part : parts) out.push_back(part->to_json());
  return out;
}

/// A field that must hold exactly one character ("replacement": "▁"). Error kFormat otherwise.
std::string get_character(const io::Json& json, std::string_view key, const std::string& where);

}  // namespace qkv::text
