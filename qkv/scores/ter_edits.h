#pragma once
// The edits of TER: a greedy search for moves around an edit distance with a beam.
//
// Exact edit distance with moves is NP-hard (Shapira and Storer, 2002), so the number is defined by the
// search: tercom's, in the form sacreBLEU gives it (sacrebleu/metrics/lib_ter.py), ties and limits included.
// While a move lowers the distance, the best one is made and costs one edit:
//
//   candidates   runs of up to 10 words that hypothesis and reference share at places at most 50 apart, where
//                the run holds an error on both sides and does not already lie over its place
//   places       before the hypothesis word aligned to the run's first reference word, and after each of the
//                words aligned to the run
//   best         largest gain, then longest run, then earliest run, then earliest place
//   limits       after 1000 candidates the search ends without the last round's move; rows of the distance
//                reach 25 cells to each side of the diagonal, more where the lengths are very different

#include <cstdint>
#include <span>

namespace qkv::scores {

/// Edits that turn the words `hyp` into `ref`, moves included. An empty ref takes hyp.size() deletions.
/// O(1000 * 50 * hyp.size()) at worst; memory O(50 * hyp.size() + ref.size()).
int64_t translation_edits(std::span<const uint32_t> hyp, std::span<const uint32_t> ref);

}  // namespace qkv::scores
