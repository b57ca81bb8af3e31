#include "qkv/text/registry.h"

#include "qkv/text/decoders/decoder.h"

namespace qkv::text {

namespace {

class Sequence final : public Decoder {
 public:
  explicit Sequence(std::vector<DecoderPtr> parts) : parts_(std::move(parts)) {}
  std::vector<std::string> apply(std::vector<std::string> pieces) const override {
    for (const auto& part : parts_) pieces = part->apply(std::move(pieces));
    return pieces;
  }
  std::string piece_text(std::string piece) const override {
    for (const auto& part : parts_) piece = part->piece_text(std::move(piece));
    return piece;
  }
  io::Json to_json() const override { return {{"type", "Sequence"}, {"decoders", parts_to_json(parts_)}}; }

 private:
  std::vector<DecoderPtr> parts_;
};

DecoderPtr make_sequence(const io::Json& json, const std::string& where) {
  return std::make_unique<Sequence>(make_parts<Decoder>(json, "decoders", where, &decoder_from_json));
}

constexpr Maker<Decoder> kMakers[] = {
    {"ByteLevel", make_byte_level_decoder}, {"ByteFallback", make_byte_fallback},
    {"BPEDecoder", make_bpe_decoder},       {"Metaspace", make_metaspace_decoder},
    {"Replace", make_replace_decoder},      {"Fuse", make_fuse},
    {"Strip", make_strip_decoder},          {"Sequence", make_sequence},
};

}  // namespace

DecoderPtr decoder_from_json(const io::Json& json, const std::string& where) {
  return make_part<Decoder>(kMakers, json, where);
}

}  // namespace qkv::text
