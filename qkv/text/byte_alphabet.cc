#include "qkv/text/byte_alphabet.h"

#include "qkv/text/utf8.h"

namespace qkv::text {

namespace {

struct Alphabet {
  std::array<std::string, 256> character;
  std::array<int, 0x144> byte;  // -1 where the character stands for none

  Alphabet() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool itself = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const char32_t c = itself ? static_cast<char32_t>(b) : next++;
      utf8::append(character[static_cast<size_t>(b)], c);
      byte[c] = b;
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet it;
  return it;
}

}  // namespace

std::string_view byte_character(unsigned char byte) { return alphabet().character[byte]; }

std::optional<unsigned char> character_byte(char32_t c) {
  const auto& byte = alphabet().byte;
  if (c >= byte.size() || byte[c] < 0) return std::nullopt;
  return static_cast<unsigned char>(byte[c]);
}

std::optional<std::string> bytes_of_piece(std::string_view piece) {
  std::string out;
  for (size_t i = 0; i < piece.size();) {
    const utf8::Step s = utf8::step(piece, i);
    const auto byte = character_byte(s.value);
    if (!s.valid || !byte) return std::nullopt;
    out.push_back(static_cast<char>(*byte));
    i += static_cast<size_t>(s.length);
  }
  return out;
}

}  // namespace qkv::text
