#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace qkv {

/// What a beam search's choice makes of the sequences that it continues: sequence r becomes what
/// sequences[parents[r]] was. A first child takes its parent's place, later ones get copy(parent); sequences
/// that are nobody's parent are let go.
template <class Sequence, class Copy>
void become_children(std::vector<Sequence>& sequences, std::span<const int32_t> parents, Copy&& copy) {
  std::vector<Sequence> children;
  std::vector<bool> taken(sequences.size(), false);
  children.reserve(parents.size());
  for (const int32_t parent : parents) {
    const auto p = static_cast<size_t>(parent);
    children.push_back(taken[p] ? copy(sequences[p]) : sequences[p]);
    taken[p] = true;
  }
  sequences = std::move(children);
}

}  // namespace qkv
