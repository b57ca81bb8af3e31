#pragma once
// Text from outside (tensor names, JSON keys, file contents) made safe to show in a message.

#include <cstdint>
#include <string>
#include <string_view>

namespace qkv {

/// `text` between double quotes: control characters, quotes, backslashes, bytes that are not UTF-8 and
/// characters that change the direction of the text or break the line are written as escapes, and what is
/// longer than max_bytes is cut and ends in
/// "...". A name can so neither fake a second message nor colour the terminal.
std::string quote(std::string_view text, int64_t max_bytes = 100);

/// The same escapes without quotes around them, for text that is a message already.
std::string escape(std::string_view text, int64_t max_bytes = 300);

}  // namespace qkv
