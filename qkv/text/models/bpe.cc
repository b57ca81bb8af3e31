// Byte-pair encoding: a word's characters, joined pair by pair in the order in which the pairs were learnt.
// Sennrich, Haddow and Birch (2016), arXiv:1508.07909, section 3.2. Options and their quirks: the BPE model
// of Hugging Face's tokenizers (tokenizers/src/models/bpe/model.rs, word.rs).

#include <algorithm>
#include <array>
#include <mutex>
#include <optional>
#include <shared_mutex>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/text/models/merge_table.h"
#include "qkv/text/models/model.h"
#include "qkv/text/utf8.h"

namespace qkv::text {

namespace {

struct BpeOptions {
  std::optional<std::string> unk_token;
  std::string continuing_subword_prefix;  // empty: none
  std::string end_of_word_suffix;         // empty: none
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;
};

// Words seen before. Texts repeat their words, so most of encoding is one look-up a word; long words do not
// repeat and would only fill the memory.
class WordCache {
 public:
  static constexpr size_t kMaxWords = 1 << 15, kMaxBytes = 48;

  bool find(std::string_view word, std::vector<WordPiece>& out) const {
    if (word.size() > kMaxBytes) return false;
    const std::shared_lock lock(mutex_);
    const auto it = words_.find(word);
    if (it == words_.end()) return false;
    out.insert(out.end(), it->second.begin(), it->second.end());
    return true;
  }

  void put(std::string_view word, const WordPiece* begin, const WordPiece* end) {
    if (word.size() > kMaxBytes) return;
    const std::unique_lock lock(mutex_, std::try_to_lock);  // a cache is not worth waiting for
    if (lock && words_.size() < kMaxWords) words_.try_emplace(std::string(word), begin, end);
  }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  mutable std::shared_mutex mutex_;
  std::unordered_map<std::string, std::vector<WordPiece>, Hash, std::equal_to<>> words_;
};

class Bpe final : public Model {
 public:
  Bpe(Vocab vocab, const io::Json& merges, BpeOptions options, const std::string& where);

  void tokenize(std::string_view word, std::vector<WordPiece>& out) const override;
  const Vocab& vocab() const override { return vocab_; }
  io::Json to_json() const override;

 private:
  // A piece in the list of a word's pieces; left and right are its neighbours, -1 at the ends.
  struct Symbol {
    int32_t id;
    uint32_t begin, end;
    int32_t left, right;
  };

  void add_merge(std::string_view left, std::string_view right, size_t rank, const std::string& where);
  std::optional<int32_t> character_id(std::string_view character) const;
  void split_into_characters(std::string_view word, std::vector<Symbol>& symbols) const;
  void merge_all(std::vector<Symbol>& symbols) const;

  Vocab vocab_;
  MergeTable merges_;
  std::vector<std::pair<int32_t, int32_t>> merge_list_;  // for to_json
  BpeOptions options_;
  std::optional<int32_t> unk_id_;
  std::array<int32_t, 256> byte_ids_;     // of "<0xHH>", -1 where there is none
  std::array<int32_t, 0x180> latin_ids_;  // of single characters, among them the whole byte alphabet
  mutable WordCache cache_;
};

Bpe::Bpe(Vocab vocab, const io::Json& merges, BpeOptions options, const std::string& where)
    : vocab_(std::move(vocab)), merges_(merges.size()), options_(std::move(options)) {
  if (options_.unk_token) {
    unk_id_ = vocab_.id_of(*options_.unk_token);
    QKV_CHECK(unk_id_, kFormat, "{}: \"unk_token\" {} is not in the vocabulary", where,
              quote(*options_.unk_token));
  }
  for (size_t b = 0; b < byte_ids_.size(); ++b)
    byte_ids_[b] = vocab_.id_of(fmt::format("<0x{:02X}>", b)).value_or(-1);
  for (char32_t c = 0; c < latin_ids_.size(); ++c) {
    std::string character;
    utf8::append(character, c);
    latin_ids_[c] = vocab_.id_of(character).value_or(-1);
  }

  merge_list_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const io::Json& merge = merges[rank];
    if (merge.is_string()) {  // the old form, "a b"
      const std::string_view text = merge.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      QKV_CHECK(space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos,
                kFormat, "{}: merge {}: needs two pieces with one space between them, got {}", where, rank,
                quote(text));
      add_merge(text.substr(0, space), text.substr(space + 1), rank, where);
    } else {
      QKV_CHECK(merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string(),
                kFormat, "{}: merge {}: needs two pieces, got {}", where, rank, escape(io::dump_json(merge)));
      add_merge(merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>(), rank, where);
    }
  }
}

void Bpe::add_merge(std::string_view left, std::string_view right, size_t rank, const std::string& where) {
  const auto known = [&](std::string_view piece) {
    const auto id = vocab_.id_of(piece);
    QKV_CHECK(id, kFormat, "{}: merge {} ({} + {}): {} is not in the vocabulary", where, rank, quote(left),
              quote(right), quote(piece));
    return *id;
  };
  QKV_CHECK(!left.empty() && !right.empty(), kFormat, "{}: merge {}: one of {} and {} is empty", where, rank,
            quote(left), quote(right));
  // The prefix that marks pieces inside a word ("##") vanishes where such a piece is joined to the one
  // before.
  const std::string& prefix = options_.continuing_subword_prefix;
  QKV_CHECK(right.size() >= prefix.size(), kFormat, "{}: merge {}: {} is shorter than the prefix {}", where,
            rank, quote(right), quote(prefix));
  const int32_t left_id = known(left), right_id = known(right);
  const int32_t id = known(std::string(left).append(right.substr(prefix.size())));
  merges_.set(left_id, right_id, {static_cast<int32_t>(rank), id});
  merge_list_.emplace_back(left_id, right_id);
}

std::optional<int32_t> Bpe::character_id(std::string_view character) const {
  const char32_t c = utf8::step(character, 0).value;
  if (c < latin_ids_.size() && utf8::step(character, 0).length == static_cast<int32_t>(character.size())) {
    if (latin_ids_[c] < 0) return std::nullopt;
    return latin_ids_[c];
  }
  return vocab_.id_of(character);
}

void Bpe::split_into_characters(std::string_view word, std::vector<Symbol>& symbols) const {
  bool last_is_unknown = false;
  const auto push = [&](int32_t id, size_t begin, size_t end) {
    const auto n = static_cast<int32_t>(symbols.size());
    symbols.push_back({id, static_cast<uint32_t>(begin), static_cast<uint32_t>(end), n - 1, n + 1});
    last_is_unknown = false;
  };
  std::string spelled;
  utf8::for_each(word, [&](char32_t, size_t begin, size_t end) {
    std::string_view symbol = word.substr(begin, end - begin);
    const bool prefixed = begin > 0 && !options_.continuing_subword_prefix.empty();
    const bool suffixed = end == word.size() && !options_.end_of_word_suffix.empty();
    if (prefixed || suffixed) {
      spelled = prefixed ? options_.continuing_subword_prefix : "";
      spelled += symbol;
      if (suffixed) spelled += options_.end_of_word_suffix;
      symbol = spelled;
    }
    if (const auto id = character_id(symbol)) return push(*id, begin, end);

    if (options_.byte_fallback) {
      const auto byte_id = [&](char c) { return byte_ids_[static_cast<unsigned char>(c)]; };
      if (std::all_of(symbol.begin(), symbol.end(), [&](char c) { return byte_id(c) >= 0; })) {
        // Bytes of a prefix or suffix come from no byte of the word.
        for (size_t i = 0; i < symbol.size(); ++i)
          push(byte_id(symbol[i]), std::min(begin + i, end), std::min(begin + i + 1, end));
        return;
      }
    }
    if (!unk_id_) return;  // no way to say it: dropped
    if (options_.fuse_unk && last_is_unknown) {
      symbols.back().end = static_cast<uint32_t>(end);
    } else {
      push(*unk_id_, begin, end);
      last_is_unknown = true;
    }
  });
  if (!symbols.empty()) symbols.back().right = -1;
}

// Of all neighbours that merge, those of lowest rank first, leftmost first: O(n log n) for n symbols, with a
// linked list so that joining is O(1) and a queue that may hold pairs which no longer exist.
void Bpe::merge_all(std::vector<Symbol>& symbols) const {
  struct Candidate {
    Merge merge;
    int32_t at;           // the left symbol
    int32_t left, right;  // ids, to see whether the pair is still there
  };
  const auto later = [](const Candidate& a, const Candidate& b) {
    return a.merge.rank != b.merge.rank ? a.merge.rank > b.merge.rank : a.at > b.at;
  };
  std::vector<Candidate> queue;
  const auto candidate = [&](int32_t at) -> std::optional<Candidate> {
    const Symbol& left = symbols[static_cast<size_t>(at)];
    if (left.right < 0) return std::nullopt;
    const Symbol& right = symbols[static_cast<size_t>(left.right)];
    const Merge* merge = merges_.find(left.id, right.id);
    if (!merge) return std::nullopt;
    return Candidate{*merge, at, left.id, right.id};
  };
  const auto push = [&](int32_t at) {
    if (const auto c = candidate(at)) {
      queue.push_back(*c);
      std::push_heap(queue.begin(), queue.end(), later);
    }
  };

  for (size_t i = 0; i + 1 < symbols.size(); ++i)
    if (const auto c = candidate(static_cast<int32_t>(i))) queue.push_back(*c);
  std::make_heap(queue.begin(), queue.end(), later);

  constexpr int32_t kGone = -1;  // the id of a symbol that was joined to the one before it
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), later);
    const Candidate top = queue.back();
    queue.pop_back();
    Symbol& left = symbols[static_cast<size_t>(top.at)];
    if (left.id != top.left || left.right < 0) continue;
    Symbol& right = symbols[static_cast<size_t>(left.right)];
    if (right.id != top.right) continue;

    left.id = top.merge.id;
    left.end = right.end;
    right.id = kGone;
    left.right = right.right;
    if (left.right >= 0) symbols[static_cast<size_t>(left.right)].left = top.at;
    if (left.left >= 0) push(left.left);
    push(top.at);
  }
  std::erase_if(symbols, [](const Symbol& s) { return s.id == kGone; });
}

void Bpe::tokenize(std::string_view word, std::vector<WordPiece>& out) const {
  if (options_.ignore_merges) {
    if (const auto id = vocab_.id_of(word)) {
      out.push_back({*id, 0, static_cast<uint32_t>(word.size())});
      return;
    }
  }
  if (cache_.find(word, out)) return;
  thread_local std::vector<Symbol> symbols;
  symbols.clear();
  split_into_characters(word, symbols);
  merge_all(symbols);
  const size_t first = out.size();
  for (const Symbol& s : symbols) out.push_back({s.id, s.begin, s.end});
  cache_.put(word, out.data() + first, out.data() + out.size());
  if (symbols.capacity() > 1 << 16) symbols = {};  // one huge word must not cost memory for ever
}

io::Json Bpe::to_json() const {
  const auto text_or_null = [](const std::string& s) { return s.empty() ? io::Json() : io::Json(s); };
  // Merges as "a b" are read by every release of every reader; the newer ["a", "b"] only where a space forces
  // it.
  const bool old_form = std::none_of(merge_list_.begin(), merge_list_.end(), [&](const auto& m) {
    return vocab_.piece(m.first)->find(' ') != std::string::npos ||
           vocab_.piece(m.second)->find(' ') != std::string::npos;
  });
  io::Json merges = io::Json::array();
  for (const auto& [left_id, right_id] : merge_list_) {
    const std::string &left = *vocab_.piece(left_id), &right = *vocab_.piece(right_id);
    merges.push_back(old_form ? io::Json(left + ' ' + right) : io::Json::array({left, right}));
  }
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", options_.unk_token ? io::Json(*options_.unk_token) : io::Json()},
          {"continuing_subword_prefix", text_or_null(options_.continuing_subword_prefix)},
          {"end_of_word_suffix", text_or_null(options_.end_of_word_suffix)},
          {"fuse_unk", options_.fuse_unk},
          {"byte_fallback", options_.byte_fallback},
          {"ignore_merges", options_.ignore_merges},
          {"vocab", vocab_.to_json()},
          {"merges", std::move(merges)}};
}

}  // namespace

ModelPtr make_bpe(const io::Json& json, const std::string& where) {
  const auto text = [&](const char* key) {
    return io::has(json, key, where) ? io::get_string(json, key, where) : std::string();
  };
  if (io::has(json, "dropout", where)) {
    QKV_CHECK(io::get_number(json, "dropout", 0, 1, where) == 0, kUnsupported,
              "{}: \"dropout\" {}: qkv merges every pair; needs null or 0", where,
              json["dropout"].get<double>());
  }
  BpeOptions options;
  if (io::has(json, "unk_token", where)) options.unk_token = io::get_string(json, "unk_token", where);
  options.continuing_subword_prefix = text("continuing_subword_prefix");
  options.end_of_word_suffix = text("end_of_word_suffix");
  options.fuse_unk = io::get_bool_or(json, "fuse_unk", false, where);
  options.byte_fallback = io::get_bool_or(json, "byte_fallback", false, where);
  options.ignore_merges = io::get_bool_or(json, "ignore_merges", false, where);
  return std::make_unique<Bpe>(Vocab::from_json(io::get_object(json, "vocab", where), where),
                               io::get_array(json, "merges", where), std::move(options), where);
}

}  // namespace qkv::text
