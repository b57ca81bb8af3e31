#pragma once
// Step 1 of encoding: the text as the vocabulary spells it.

#include <memory>
#include <string>

#include "qkv/io/json.h"
#include "qkv/text/traced_text.h"

namespace qkv::text {

/// NFC, NFD, NFKC, NFKD, Lowercase, Strip, Replace, Prepend and Sequence of tokenizer.json. Thread-safe.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  /// Error kValue where the text grows past its limit.
  virtual TracedText apply(TracedText text) const = 0;
  virtual io::Json to_json() const = 0;
};

using NormalizerPtr = std::unique_ptr<const Normalizer>;

/// Error kFormat (a field is missing or wrong) or kUnsupported (no such type), beginning with `where`.
NormalizerPtr normalizer_from_json(const io::Json& json, const std::string& where);

// The makers behind the registry.
NormalizerPtr make_nfc(const io::Json&, const std::string&);
NormalizerPtr make_nfd(const io::Json&, const std::string&);
NormalizerPtr make_nfkc(const io::Json&, const std::string&);
NormalizerPtr make_nfkd(const io::Json&, const std::string&);
NormalizerPtr make_lowercase(const io::Json&, const std::string&);
NormalizerPtr make_strip(const io::Json&, const std::string&);
NormalizerPtr make_replace(const io::Json&, const std::string&);
NormalizerPtr make_prepend(const io::Json&, const std::string&);

}  // namespace qkv::text
