#pragma once
// Strict JSON as a stream of events: for contents that should not, or need not, become a tree in memory.

#include <string>
#include <string_view>

#include "qkv/io/json.h"

namespace qkv::io {

/// What a handler of events derives from. Every event may `return refuse("...")`: parsing ends and
/// parse_json_events throws that problem with the place where it was noticed.
class JsonEvents : public Json::json_sax_t {
 public:
  const std::string& problem() const { return problem_; }

  // Never called for text, but the interface wants it.
  bool binary(binary_t&) override { return refuse("binary values are not JSON"); }
  bool parse_error(std::size_t position, const std::string& last_token,
                   const nlohmann::detail::exception& error) override;

 protected:
  bool refuse(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }

 private:
  std::string problem_;
};

/// Feeds `text` to `events`, with all that parse_json refuses refused, except duplicate keys, which the
/// handler has to see to. Memory: that of the longest token. Error kFormat as parse_json.
void parse_json_events(std::string_view text, std::string_view where, const JsonLimits& limits,
                       JsonEvents& events);

}  // namespace qkv::io
