#pragma once
// Numbers of things in messages.

#include <cstdint>
#include <string>
#include <string_view>

namespace qkv {

/// "1 model", "3 models"; for nouns whose plural is an s.
inline std::string counted(int64_t n, std::string_view noun) {
  return std::to_string(n) + " " + std::string(noun) + (n == 1 ? "" : "s");
}

}  // namespace qkv
