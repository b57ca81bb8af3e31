#pragma once
// Step 3 of encoding: a word as pieces of a vocabulary.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/io/json.h"
#include "qkv/text/vocab.h"

namespace qkv::text {

/// A piece of a word: bytes [begin, end) of it.
struct WordPiece {
  int32_t id = 0;
  uint32_t begin = 0, end = 0;
};

/// BPE of tokenizer.json. To add another (WordPiece, Unigram): its file here and a line in
/// models/registry.cc.
class Model {
 public:
  virtual ~Model() = default;
  /// Appends the pieces of `word`, which is UTF-8 and not empty. Thread-safe; near linear time in the word.
  virtual void tokenize(std::string_view word, std::vector<WordPiece>& out) const = 0;
  virtual const Vocab& vocab() const = 0;
  virtual io::Json to_json() const = 0;
};

using ModelPtr = std::unique_ptr<const Model>;

/// Error kFormat (a field is missing or wrong) or kUnsupported (no such type), beginning with `where`. Old
/// files leave "type" out: merges then mean BPE.
ModelPtr model_from_json(const io::Json& json, const std::string& where);

// The makers behind the registry.
ModelPtr make_bpe(const io::Json&, const std::string&);

}  // namespace qkv::text
