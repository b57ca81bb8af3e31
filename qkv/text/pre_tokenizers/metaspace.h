#pragma once
// "▁" for a space: SentencePiece's spelling, shared by the Metaspace pre-tokenizer and decoder.

#include <string>

#include "qkv/io/json.h"

namespace qkv::text {

/// Which words get the mark put before them.
enum class PrependScheme { kAlways, kFirst, kNever };

struct MetaspaceOptions {
  std::string replacement = "▁";  // one character
  PrependScheme prepend = PrependScheme::kAlways;
  bool split = true;
};

/// Reads also the old form, where `add_prefix_space: false` stands for "never". Error kFormat.
MetaspaceOptions metaspace_from_json(const io::Json& json, const std::string& where);
io::Json metaspace_to_json(const MetaspaceOptions& options);

}  // namespace qkv::text
