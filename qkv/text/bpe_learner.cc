#include "qkv/text/bpe_learner.h"

#include <algorithm>
#include <queue>
#include <unordered_map>

#include "qkv/base/error.h"
#include "qkv/text/utf8.h"

namespace qkv::text {

namespace {

struct Pair {
  int32_t left, right;
  bool operator==(const Pair&) const = default;
  bool operator<(const Pair& o) const { return left != o.left ? left < o.left : right < o.right; }
};

struct PairHash {
  size_t operator()(const Pair& p) const {
    const uint64_t key =
        static_cast<uint64_t>(static_cast<uint32_t>(p.left)) << 32 | static_cast<uint32_t>(p.right);
    return static_cast<size_t>((key * 0x9E3779B97F4A7C15u) >> 20);
  }
};

class Learner {
 public:
  Learner(std::vector<CountedWord> words, std::vector<std::string>& pieces, const LearnerOptions& options)
      : words_(std::move(words)), pieces_(pieces), options_(options), queue_(Worse{pieces}) {
    for (const std::string& piece : pieces_) lengths_.push_back(utf8::length(piece));
    for (size_t i = 0; i < pieces_.size(); ++i) ids_.emplace(pieces_[i], static_cast<int32_t>(i));
    for (size_t w = 0; w < words_.size(); ++w) {
      const auto& symbols = words_[w].symbols;
      for (size_t i = 0; i + 1 < symbols.size(); ++i)
        change({symbols[i], symbols[i + 1]}, words_[w].count, w);
    }
    queue_changed_pairs();
  }

  std::vector<std::pair<int32_t, int32_t>> run() {
    std::vector<std::pair<int32_t, int32_t>> merges;
    while (static_cast<int64_t>(pieces_.size()) < options_.max_pieces && !queue_.empty()) {
      const Entry best = queue_.top();
      queue_.pop();
      const auto it = pairs_.find(best.pair);
      if (it == pairs_.end()) continue;  // merged already
      if (it->second.count != best.count) {
        push(best.pair, it->second.count);
        continue;
      }
      if (!allowed(best.pair)) continue;
      merges.emplace_back(best.pair.left, best.pair.right);
      const std::vector<int32_t> holders = std::move(it->second.words);
      pairs_.erase(it);
      const int32_t joined = add_piece(best.pair);
      for (const int32_t w : holders) merge_in(static_cast<size_t>(w), best.pair, joined);
      queue_changed_pairs();
    }
    return merges;
  }

 private:
  struct PairInfo {
    int64_t count = 0;
    std::vector<int32_t> words;  // every word that holds the pair, and maybe some that no longer do
  };
  struct Entry {
    int64_t count;
    Pair pair;
  };
  struct Worse {
    const std::vector<std::string>& pieces;
    bool operator()(const Entry& a, const Entry& b) const {
      if (a.count != b.count) return a.count < b.count;
      const auto text = [&](int32_t id) -> const std::string& { return pieces[static_cast<size_t>(id)]; };
      const int left = text(a.pair.left).compare(text(b.pair.left));
      return left != 0 ? left > 0 : text(a.pair.right) > text(b.pair.right);
    }
  };

  std::string joined_text(const Pair& p) const {
    return pieces_[static_cast<size_t>(p.left)] + pieces_[static_cast<size_t>(p.right)];
  }

  bool allowed(const Pair& p) const {
    const int64_t length = lengths_[static_cast<size_t>(p.left)] + lengths_[static_cast<size_t>(p.right)];
    if (options_.max_piece_length > 0 && length > options_.max_piece_length) return false;
    return !options_.forbidden.contains(joined_text(p));
  }

  int32_t add_piece(const Pair& p) {
    const auto [it, is_new] = ids_.try_emplace(joined_text(p), static_cast<int32_t>(pieces_.size()));
    if (is_new) {
      lengths_.push_back(lengths_[static_cast<size_t>(p.left)] + lengths_[static_cast<size_t>(p.right)]);
      pieces_.push_back(it->first);
    }
    return it->second;
  }

  // Joins the pair wherever it stands in a word, left to right, and counts what that does to the neighbours.
  void merge_in(size_t w, const Pair& pair, int32_t joined) {
    auto& symbols = words_[w].symbols;
    const int64_t count = words_[w].count;
    size_t out = 0;
    for (size_t i = 0; i < symbols.size();) {
      if (i + 1 == symbols.size() || symbols[i] != pair.left || symbols[i + 1] != pair.right) {
        symbols[out++] = symbols[i++];
        continue;
      }
      if (out > 0) {
        change({symbols[out - 1], pair.left}, -count, w);
        change({symbols[out - 1], joined}, count, w);
      }
      if (i + 2 < symbols.size()) {
        const int32_t next = symbols[i + 2];
        // In "aaa" the second pair goes with the first; it has left the table already.
        if (Pair{pair.right, next} != pair) change({pair.right, next}, -count, w);
        change({joined, next}, count, w);
      }
      symbols[out++] = joined;
      i += 2;
    }
    symbols.resize(out);
  }

  void change(const Pair& pair, int64_t by, size_t word) {
    PairInfo& info = pairs_[pair];
    info.count += by;
    if (by < 0) return;  // an entry of the queue that is too high is put right when it comes out
    const auto w = static_cast<int32_t>(word);
    if (info.words.empty() || info.words.back() != w) info.words.push_back(w);
    grown_.push_back(pair);
  }

  void queue_changed_pairs() {
    std::sort(grown_.begin(), grown_.end());
    grown_.erase(std::unique(grown_.begin(), grown_.end()), grown_.end());
    for (const Pair& pair : grown_) push(pair, pairs_[pair].count);
    grown_.clear();
  }

  void push(const Pair& pair, int64_t count) {
    if (count >= std::max<int64_t>(1, options_.min_frequency)) queue_.push({count, pair});
  }

  std::vector<CountedWord> words_;
  std::vector<std::string>& pieces_;
  const LearnerOptions& options_;
  std::vector<int64_t> lengths_;
  std::unordered_map<std::string, int32_t> ids_;
  std::unordered_map<Pair, PairInfo, PairHash> pairs_;
  std::priority_queue<Entry, std::vector<Entry>, Worse> queue_;
  std::vector<Pair> grown_;  // pairs whose count went up since the queue last heard
};

}  // namespace

std::vector<std::pair<int32_t, int32_t>> learn_merges(std::vector<CountedWord> words,
                                                      std::vector<std::string>& pieces,
                                                      const LearnerOptions& options) {
  return Learner(std::move(words), pieces, options).run();
}

}  // namespace qkv::text
