#pragma once
// Looking inside without leaving the fast path: a probe names sites, layers, heads and query rows, and
// attention gives it those rows' exact weights, recomputed from q, k and two numbers a row. Nothing else
// is stored.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qkv {

struct HeadControls;

/// The weights of one query of one head: attn_weights[j] is key j's, before dropout. Normalizers whose keys
/// compete make them add up to 1 (with a sink, to less), or all 0 if the query sees no key; a sigmoid's add
/// up to what they do.
struct AttentionRow {
  std::string site;
  int64_t layer = 0, head = 0, sequence = 0;
  int64_t position = 0;             // of the query: past + its row in the sequence
  double lse = 0;                   // log sum_j exp(score_j), with a sink its exp too; -inf if that sums
                                    // nothing. Of softmax alone: else 0
  double entropy = 0;               // -sum_j w_j log w_j, in nats: 0 for one key, log n for n keys alike
  std::vector<float> attn_weights;  // [kv_len]; or of `keys`, where the probe has a top_k
  std::vector<int64_t> keys;        // empty: all, in order; else the heaviest, the heaviest first
};

/// What to look at. An empty list means all. Rows are appended in the order layers run, then by sequence,
/// head and position; a decoder that runs step by step appends step by step. Not for use by two threads at
/// once.
struct Probe {
  std::vector<std::string> sites;  // "encoder", "decoder", "cross"
  std::vector<int64_t> layers, heads, sequences, positions;
  /// Keep only so many keys of a row, the heaviest (of equal ones the first): for long inputs. 0 or less:
  /// all. A row then takes O(top_k) memory; while it is made, up to 64 rows take their kv_len numbers.
  int64_t top_k = 0;

  /// Heads to switch, weaken or disturb on the way (heads/head_controls.h), or null. For these alone, name a
  /// site that there is not: nothing is recorded.
  const HeadControls* controls = nullptr;

  std::vector<AttentionRow> rows;

  /// Fills entropy, and keeps top_k keys, of a row that has all its weights.
  void finish(AttentionRow& row) const;

  bool wants(std::string_view site, int64_t layer) const;
  static bool wants(const std::vector<int64_t>& list, int64_t value);
};

}  // namespace qkv
