#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "qkv/base/parallel.h"

namespace qkv {

/// What a beam search's choice makes of the sequences that it continues: sequence r becomes what
/// sequences[parents[r]] was. A first child takes its parent's place, later ones get copy(parent); sequences
/// that are nobody's parent are let go. work: of all the copies, in bytes or so, at most; threads
/// share it where it is worth that, and copy() has to allow for them. 0: they do not.
template <class Sequence, class Copy>
void become_children(std::vector<Sequence>& sequences, std::span<const int32_t> parents, Copy&& copy,
                     int64_t work = 0) {
  std::vector<Sequence> children(parents.size());
  std::vector<bool> taken(sequences.size(), false);
  std::vector<size_t> copies;
  for (size_t child = 0; child < parents.size(); ++child) {
    const auto parent = static_cast<size_t>(parents[child]);
    if (taken[parent])
      copies.push_back(child);
    else
      children[child] = sequences[parent];
    taken[parent] = true;
  }
  parallel_items(
      static_cast<int64_t>(copies.size()),
      [&](int64_t i) {
        const size_t child = copies[static_cast<size_t>(i)];
        children[child] = copy(sequences[static_cast<size_t>(parents[child])]);
      },
      work);
  sequences = std::move(children);
}

}  // namespace qkv
