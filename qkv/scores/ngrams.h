#pragma once
// Numbering the n-grams of a segment, so that counting them is adding to an array.

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

namespace qkv::scores {

/// Gives the same number to equal n-grams and different numbers to different ones, exactly: an n-gram is the
/// pair (number of its first n-1 tokens, last token), which fits one 64-bit key. So order n costs one look-up
/// a position whatever n is, and nothing rests on a hash that might collide.
///
///   NgramIds grams;
///   for n = 1 .. max:  grams.next_order(total number of tokens);
///                      for each sequence: grams.extend(ids, tokens, n);   // ids begins empty
class NgramIds {
 public:
  /// Forgets the order before. At most `max_keys` different n-grams may follow.
  void next_order(int64_t max_keys) {
    slots_.assign(std::bit_ceil(static_cast<uint64_t>(max_keys) * 2 + 2), Slot{});
    size_ = 0;
  }

  /// `ids` holds the numbers of the (n-1)-grams of `tokens` (anything for n = 1) and becomes those of the
  /// n-grams: max(0, tokens.size() - n + 1) of them.
  void extend(std::vector<uint32_t>& ids, std::span<const uint32_t> tokens, int64_t n) {
    const int64_t count = static_cast<int64_t>(tokens.size()) - n + 1;
    ids.resize(static_cast<size_t>(count > 0 ? count : 0));
    for (size_t i = 0; i < ids.size(); ++i)
      ids[i] = number((n == 1 ? 0 : uint64_t{ids[i]} << 32) | tokens[i + static_cast<size_t>(n) - 1]);
  }

  /// Different n-grams of this order so far; their numbers are 0 .. size() - 1.
  int64_t size() const { return size_; }

 private:
  static constexpr uint32_t kFree = 0xffffffffu;
  struct Slot {
    uint64_t key = 0;
    uint32_t id = kFree;
  };

  uint32_t number(uint64_t key) {
    const uint64_t mask = slots_.size() - 1;
    uint64_t h = key * 0x9E3779B97F4A7C15u;
    for (uint64_t at = (h ^ h >> 32) & mask;; at = (at + 1) & mask) {
      Slot& slot = slots_[at];
      if (slot.id == kFree) slot = {key, size_++};
      if (slot.key == key) return slot.id;
    }
  }

  std::vector<Slot> slots_;
  uint32_t size_ = 0;
};

/// counts[id] of `ids`, for a table of `size` numbers.
inline void count_ids(std::vector<uint32_t>& counts, std::span<const uint32_t> ids, int64_t size) {
  counts.assign(static_cast<size_t>(size), 0);
  for (const uint32_t id : ids) ++counts[id];
}

}  // namespace qkv::scores
