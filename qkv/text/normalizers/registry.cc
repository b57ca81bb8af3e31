#include "qkv/text/registry.h"

#include "qkv/text/normalizers/normalizer.h"

namespace qkv::text {

namespace {

class Sequence final : public Normalizer {
 public:
  explicit Sequence(std::vector<NormalizerPtr> parts) : parts_(std::move(parts)) {}
  TracedText apply(TracedText text) const override {
    for (const auto& part : parts_) text = part->apply(std::move(text));
    return text;
  }
  io::Json to_json() const override { return {{"type", "Sequence"}, {"normalizers", parts_to_json(parts_)}}; }

 private:
  std::vector<NormalizerPtr> parts_;
};

NormalizerPtr make_sequence(const io::Json& json, const std::string& where) {
  return std::make_unique<Sequence>(
      make_parts<Normalizer>(json, "normalizers", where, &normalizer_from_json));
}

constexpr Maker<Normalizer> kMakers[] = {
    {"NFC", make_nfc},
    {"NFD", make_nfd},
    {"NFKC", make_nfkc},
    {"NFKD", make_nfkd},
    {"Lowercase", make_lowercase},
    {"Strip", make_strip},
    {"Replace", make_replace},
    {"Prepend", make_prepend},
    {"Sequence", make_sequence},
};

}  // namespace

NormalizerPtr normalizer_from_json(const io::Json& json, const std::string& where) {
  return make_part<Normalizer>(kMakers, json, where);
}

}  // namespace qkv::text
