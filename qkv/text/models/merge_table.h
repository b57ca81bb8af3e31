#pragma once
// Which pairs of ids merge, in which order, into what.

#include <cstdint>
#include <vector>

namespace qkv::text {

struct Merge {
  int32_t rank = 0;  // lower goes first
  int32_t id = 0;    // of the joined piece
};

/// A hash table of pairs, open addressing with linear probing: 16 bytes an entry, one cache line a look-up.
/// Looking up pairs is what encoding spends its time on.
class MergeTable {
 public:
  explicit MergeTable(size_t merges = 0) {
    size_t slots = 16;
    while (slots < 2 * merges) slots *= 2;
    slots_.resize(slots);
  }

  /// A pair that is there already takes the new merge, as in the reference implementation.
  void set(int32_t left, int32_t right, Merge merge) {
    Slot& slot = slots_[find_slot(key(left, right))];
    slot = {key(left, right), merge};
  }

  /// nullptr where the pair does not merge.
  const Merge* find(int32_t left, int32_t right) const {
    const Slot& slot = slots_[find_slot(key(left, right))];
    return slot.key == kEmpty ? nullptr : &slot.merge;
  }

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};  // ids are not negative, so no pair has this key
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge;
  };

  static uint64_t key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  size_t find_slot(uint64_t k) const {
    const size_t mask = slots_.size() - 1;
    // Fibonacci hashing; the high half of the product is the well-mixed one.
    size_t i = static_cast<size_t>((k * 0x9E3779B97F4A7C15u) >> 32) & mask;
    while (slots_[i].key != kEmpty && slots_[i].key != k) i = (i + 1) & mask;
    return i;
  }

  std::vector<Slot> slots_;
};

}  // namespace qkv::text
