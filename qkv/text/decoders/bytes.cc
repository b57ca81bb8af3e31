// Decoders of pieces that spell bytes: "Ġlow" (ByteLevel) and "<0x0A>" (ByteFallback).

#include "qkv/text/byte_alphabet.h"
#include "qkv/text/decoders/decoder.h"
#include "qkv/text/utf8.h"

namespace qkv::text {

namespace {

class ByteLevel final : public Decoder {
 public:
  // All pieces together, because a character's bytes may be spread over several.
  std::vector<std::string> apply(std::vector<std::string> pieces) const override {
    std::string bytes;
    for (std::string& piece : pieces) bytes += piece_text(std::move(piece));
    return {utf8::repaired(bytes)};
  }
  // An added token may have characters that stand for no byte; it is then taken as it is, whole.
  std::string piece_text(std::string piece) const override {
    auto bytes = bytes_of_piece(piece);
    return bytes ? std::move(*bytes) : std::move(piece);
  }
  io::Json to_json() const override {
    return {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
  }
};

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// The byte of "<0xHH>", or -1.
int byte_of(const std::string& piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return -1;
  const int high = hex_value(piece[3]), low = hex_value(piece[4]);
  return high < 0 || low < 0 ? -1 : 16 * high + low;
}

class ByteFallback final : public Decoder {
 public:
  std::vector<std::string> apply(std::vector<std::string> pieces) const override {
    std::vector<std::string> out;
    std::string run;  // bytes not yet written
    const auto flush = [&] {
      if (run.empty()) return;
      if (!utf8::first_invalid(run))
        out.push_back(run);
      else
        out.insert(out.end(), run.size(), "\uFFFD");  // one for each byte, valid parts included
      run.clear();
    };
    for (std::string& piece : pieces) {
      if (const int byte = byte_of(piece); byte >= 0) {
        run.push_back(static_cast<char>(byte));
      } else {
        flush();
        out.push_back(std::move(piece));
      }
    }
    flush();
    return out;
  }
  std::string piece_text(std::string piece) const override {
    const int byte = byte_of(piece);
    return byte >= 0 ? std::string(1, static_cast<char>(byte)) : piece;
  }
  io::Json to_json() const override { return {{"type", "ByteFallback"}}; }
};

}  // namespace

DecoderPtr make_byte_level_decoder(const io::Json&, const std::string&) {
  return std::make_unique<ByteLevel>();
}
DecoderPtr make_byte_fallback(const io::Json&, const std::string&) {
  return std::make_unique<ByteFallback>();
}

}  // namespace qkv::text
