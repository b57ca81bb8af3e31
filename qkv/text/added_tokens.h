#pragma once
// Tokens beside the model's own: cut out of the text before anything else looks at it.

#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "qkv/io/json.h"
#include "qkv/text/vocab.h"

namespace qkv::text {

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool single_word = false;  // found only where neither neighbour is a word character
  bool lstrip = false;       // swallows the white space before it
  bool rstrip = false;       // swallows the white space after it
  bool normalized = true;    // looked for, normalised itself, in the normalised text; else in the raw text
  bool special = false;      // left out by decode(skip_special_tokens), found only with parse_special
};

/// A part of a text: a token, or (token == nullptr) text for the steps that follow.
struct Section {
  size_t begin = 0, end = 0;
  const AddedToken* token = nullptr;
};

/// "added_tokens" of tokenizer.json. Const use is thread-safe.
class AddedTokens {
 public:
  AddedTokens() = default;
  AddedTokens(AddedTokens&&) = default;
  AddedTokens& operator=(AddedTokens&&) = default;

  /// `normalize` is the tokenizer's normalizer. The ids in the file are not obeyed: a content that the model
  /// knows keeps the model's id, another gets the next free one, in the order of the list, as in the
  /// reference implementation. Empty and repeated contents are passed over. Error kFormat.
  static AddedTokens from_json(const io::Json& json, const Vocab& vocab,
                               const std::function<std::string(const std::string&)>& normalize,
                               const std::string& where);
  io::Json to_json() const;

  /// The tokens in a text, leftmost-longest, and what lies between them. Special ones only with
  /// parse_special.
  std::vector<Section> find_in_raw(std::string_view text, bool parse_special) const;
  std::vector<Section> find_in_normalized(std::string_view text, bool parse_special) const;

  const AddedToken* find(std::string_view content) const;
  const AddedToken* find(int32_t id) const;
  int64_t max_id() const;  // -1 when empty
  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }

 private:
  // The contents of some tokens as a tree of their bytes: edge (node, byte) -> node.
  class Trie {
   public:
    void add(std::string_view text, size_t token);
    bool empty() const { return edges_.empty(); }
    bool may_begin(char c) const { return first_[static_cast<unsigned char>(c)]; }
    /// The token whose text is the longest that stands at `at`, and its length; length 0 where none does.
    std::pair<size_t, size_t> longest(std::string_view text, size_t at) const;

   private:
    std::unordered_map<uint64_t, uint32_t> edges_;
    std::unordered_map<uint32_t, size_t> ends_;  // node -> token
    std::vector<bool> first_ = std::vector<bool>(256);
    uint32_t nodes_ = 1;
  };

  std::vector<Section> find_all(const Trie& trie, std::string_view text, bool parse_special) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, size_t> by_content_;
  std::unordered_map<int32_t, size_t> by_id_;
  Trie raw_, normalized_;
};

}  // namespace qkv::text
