#pragma once
// The way back: pieces of the vocabulary to text.

#include <memory>
#include <string>
#include <vector>

#include "qkv/io/json.h"

namespace qkv::text {

/// ByteLevel, BPEDecoder, Metaspace, Replace, Fuse, Strip, ByteFallback and Sequence of tokenizer.json.
/// Thread-safe.
class Decoder {
 public:
  virtual ~Decoder() = default;
  /// The pieces as the next decoder wants them; the text is what the last one gives, joined.
  virtual std::vector<std::string> apply(std::vector<std::string> pieces) const = 0;
  /// The bytes that one piece stands for in the middle of a text, UTF-8 or not.
  virtual std::string piece_text(std::string piece) const = 0;
  virtual io::Json to_json() const = 0;
};

using DecoderPtr = std::unique_ptr<const Decoder>;

/// Error kFormat (a field is missing or wrong) or kUnsupported (no such type), beginning with `where`.
DecoderPtr decoder_from_json(const io::Json& json, const std::string& where);

// The makers behind the registry.
DecoderPtr make_byte_level_decoder(const io::Json&, const std::string&);
DecoderPtr make_byte_fallback(const io::Json&, const std::string&);
DecoderPtr make_bpe_decoder(const io::Json&, const std::string&);
DecoderPtr make_metaspace_decoder(const io::Json&, const std::string&);
DecoderPtr make_replace_decoder(const io::Json&, const std::string&);
DecoderPtr make_fuse(const io::Json&, const std::string&);
DecoderPtr make_strip_decoder(const io::Json&, const std::string&);

}  // namespace qkv::text
