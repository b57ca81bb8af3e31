#pragma once
// The 256 bytes as printable characters: how byte-level tokenizers spell them.

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace qkv::text {

/// GPT-2's mapping (openai/gpt-2, encoder.py, bytes_to_unicode): bytes 21-7E, A1-AC and AE-FF (hex) are the
/// characters of the same number; the 68 others, in rising order, U+0100, U+0101, ... A space becomes "Ġ".
std::string_view byte_character(unsigned char byte);

/// The byte behind one of these 256 characters.
std::optional<unsigned char> character_byte(char32_t c);

/// `piece` in bytes, or nothing where it has a character that stands for no byte.
std::optional<std::string> bytes_of_piece(std::string_view piece);

}  // namespace qkv::text
