#include "qkv/text/added_tokens.h"

#include <algorithm>
#include <limits>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/text/unicode.h"
#include "qkv/text/utf8.h"

namespace qkv::text {

namespace {

// Looking for tokens costs at most this many steps a byte of text, whatever the file says.
constexpr size_t kMaxContent = 1024;

bool ends_with_word(std::string_view text) {
  size_t i = text.size();
  while (i > 0 && (static_cast<unsigned char>(text[i - 1]) & 0xC0) == 0x80) --i;
  return i > 0 && unicode::is_word(utf8::step(text, i - 1).value);
}

bool starts_with_word(std::string_view text) {
  return !text.empty() && unicode::is_word(utf8::step(text, 0).value);
}

// How many bytes of white space `text` begins with.
size_t leading_space(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const utf8::Step s = utf8::step(text, i);
    if (!unicode::is_whitespace(s.value)) break;
    i += static_cast<size_t>(s.length);
  }
  return i;
}

// Where the white space that `text` ends with begins, at `from` or later.
size_t trailing_space(std::string_view text, size_t from) {
  size_t end = text.size();
  while (end > from) {
    size_t i = end - 1;
    while (i > from && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) --i;
    if (!unicode::is_whitespace(utf8::step(text, i).value)) break;
    end = i;
  }
  return end;
}

uint64_t edge(uint32_t node, char byte) {
  return static_cast<uint64_t>(node) << 8 | static_cast<unsigned char>(byte);
}

}  // namespace

void AddedTokens::Trie::add(std::string_view text, size_t token) {
  if (text.empty()) return;
  uint32_t node = 0;
  for (const char c : text) {
    const auto [it, is_new] = edges_.try_emplace(edge(node, c), nodes_);
    if (is_new) ++nodes_;
    node = it->second;
  }
  first_[static_cast<unsigned char>(text[0])] = true;
  ends_.try_emplace(node, token);
}

std::pair<size_t, size_t> AddedTokens::Trie::longest(std::string_view text, size_t at) const {
  std::pair<size_t, size_t> best = {0, 0};
  uint32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const auto next = edges_.find(edge(node, text[i]));
    if (next == edges_.end()) break;
    node = next->second;
    if (const auto end = ends_.find(node); end != ends_.end()) best = {end->second, i + 1 - at};
  }
  return best;
}

AddedTokens AddedTokens::from_json(const io::Json& json, const Vocab& vocab,
                                   const std::function<std::string(const std::string&)>& normalize,
                                   const std::string& where) {
  AddedTokens out;
  QKV_CHECK(json.is_array(), kFormat, "{}: needs an array, got {}", where, json.type_name());
  int64_t next_id = vocab.size();
  for (const io::Json& one : json) {
    AddedToken token;
    token.content = io::get_string(one, "content", where);
    const std::string what = where + ": " + quote(token.content);
    // Not obeyed, but it still has to be an id.
    if (one.contains("id")) io::get_int(one, "id", 0, std::numeric_limits<uint32_t>::max(), what);
    token.single_word = io::get_bool_or(one, "single_word", false, what);
    token.lstrip = io::get_bool_or(one, "lstrip", false, what);
    token.rstrip = io::get_bool_or(one, "rstrip", false, what);
    token.special = io::get_bool_or(one, "special", false, what);
    token.normalized = io::get_bool_or(one, "normalized", !token.special, what);
    if (token.content.empty() || out.by_content_.contains(token.content)) continue;
    QKV_CHECK(token.content.size() <= kMaxContent, kUnsupported, "{}: has {} bytes, {} are allowed", what,
              token.content.size(), kMaxContent);

    if (const auto id = vocab.id_of(token.content)) {
      token.id = *id;
    } else {
      while (next_id <= std::numeric_limits<int32_t>::max() && vocab.piece(static_cast<int32_t>(next_id)))
        ++next_id;
      QKV_CHECK(next_id <= std::numeric_limits<int32_t>::max(), kFormat, "{}: no id is left for it", what);
      token.id = static_cast<int32_t>(next_id++);
    }
    const size_t index = out.tokens_.size();
    out.by_content_.emplace(token.content, index);
    out.by_id_.emplace(token.id, index);
    if (token.normalized)
      out.normalized_.add(normalize(token.content), index);
    else
      out.raw_.add(token.content, index);
    out.tokens_.push_back(std::move(token));
  }
  return out;
}

io::Json AddedTokens::to_json() const {
  io::Json out = io::Json::array();
  for (const AddedToken& t : tokens_) {
    out.push_back({{"id", t.id},
                   {"content", t.content},
                   {"single_word", t.single_word},
                   {"lstrip", t.lstrip},
                   {"rstrip", t.rstrip},
                   {"normalized", t.normalized},
                   {"special", t.special}});
  }
  return out;
}

std::vector<Section> AddedTokens::find_in_raw(std::string_view text, bool parse_special) const {
  return find_all(raw_, text, parse_special);
}
std::vector<Section> AddedTokens::find_in_normalized(std::string_view text, bool parse_special) const {
  return find_all(normalized_, text, parse_special);
}

std::vector<Section> AddedTokens::find_all(const Trie& trie, std::string_view text,
                                           bool parse_special) const {
  std::vector<Section> out;
  size_t done = 0;  // everything before is in `out`
  if (!trie.empty()) {
    for (size_t at = 0; at < text.size();) {
      const auto [index, length] =
          trie.may_begin(text[at]) ? trie.longest(text, at) : std::pair<size_t, size_t>();
      if (length == 0) {
        ++at;
        continue;
      }
      const AddedToken& token = tokens_[index];
      size_t begin = at, end = at + length;
      at = end;  // a match that is not taken is passed over all the same
      if (token.special && !parse_special) continue;
      if (token.single_word && (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end))))
        continue;
      if (token.lstrip) begin = trailing_space(text.substr(0, begin), done);
      if (token.rstrip) end += leading_space(text.substr(end));
      begin = std::max(begin, done);
      if (done < begin) out.push_back({done, begin, nullptr});
      out.push_back({begin, end, &token});
      done = at = end;
    }
  }
  if (done < text.size()) out.push_back({done, text.size(), nullptr});
  return out;
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const auto it = by_content_.find(std::string(content));
  return it == by_content_.end() ? nullptr : &tokens_[it->second];
}

const AddedToken* AddedTokens::find(int32_t id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : &tokens_[it->second];
}

int64_t AddedTokens::max_id() const {
  int64_t out = -1;
  for (const AddedToken& t : tokens_) out = std::max<int64_t>(out, t.id);
  return out;
}

}  // namespace qkv::text
