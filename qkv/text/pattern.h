#pragma once
// {"String": "literal"} or {"Regex": "expression"}: what Split and Replace look for.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/io/json.h"
#include "qkv/text/regex.h"
#include "qkv/text/traced_text.h"

namespace qkv::text {

class Pattern {
 public:
  /// Error kFormat where `json` is neither form.
  static Pattern from_json(const io::Json& json, const std::string& where);
  io::Json to_json() const;

  /// Replaces `out` by the places in `text`, left to right, none overlapping. An empty literal is nowhere.
  void find_all(std::string_view text, std::vector<Span>& out) const;

 private:
  std::string literal_;
  std::optional<Regex> regex_;
};

}  // namespace qkv::text
