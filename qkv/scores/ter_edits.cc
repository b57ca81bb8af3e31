#include "qkv/scores/ter_edits.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "qkv/base/error.h"

namespace qkv::scores {
namespace {

constexpr int64_t kMaxMoveSize = 10;
constexpr int64_t kMaxMoveDistance = 50;
constexpr int64_t kBeam = 25;
constexpr int64_t kMaxCandidates = 1000;
constexpr int32_t kUnreached = 1 << 30;

using Words = std::vector<uint32_t>;

enum Op : char { kInsert, kDelete, kKeep, kReplace, kNone };

// Levenshtein distance from a hypothesis of fixed length to the reference, within a beam around the diagonal.
//
// A move changes the words from one place on, so the rows before it stay: candidates are computed from there,
// in rows that are written over by the next one. (sacreBLEU keeps a trie of rows for the same saving.)
class BeamDistance {
 public:
  BeamDistance(int64_t hyp_len, std::span<const uint32_t> ref)
      : ref_(ref), hyp_len_(hyp_len), ref_len_(static_cast<int64_t>(ref.size())) {
    ratio_ = hyp_len > 0 ? static_cast<double>(ref_len_) / static_cast<double>(hyp_len) : 1.0;
    // Rows step `ratio` cells to the right; a beam narrower than half of that could miss the row before.
    const double half = ratio_ / 2;
    beam_ = kBeam < half ? static_cast<int64_t>(std::ceil(half + kBeam)) : kBeam;
    begin_.resize(static_cast<size_t>(hyp_len + 1));
    offset_.resize(static_cast<size_t>(hyp_len + 2));
    int64_t cells = 0;
    for (int64_t i = 0; i <= hyp_len; ++i) {
      const auto diagonal = static_cast<int64_t>(std::floor(static_cast<double>(i) * ratio_));
      const bool whole_end = i == 0 || i == hyp_len;
      begin_[static_cast<size_t>(i)] = i == 0 ? 0 : std::max<int64_t>(0, diagonal - beam_);
      const int64_t end = whole_end ? ref_len_ + 1 : std::min(ref_len_ + 1, diagonal + beam_);
      offset_[static_cast<size_t>(i)] = cells;
      cells += std::max<int64_t>(0, end - begin_[static_cast<size_t>(i)]);
    }
    offset_[static_cast<size_t>(hyp_len + 1)] = cells;
    cost_.assign(static_cast<size_t>(cells), kUnreached);
    op_.assign(static_cast<size_t>(cells), kNone);
    for (int64_t j = 0; j <= ref_len_; ++j) {  // row 0: every reference word is inserted
      cost_[static_cast<size_t>(j)] = static_cast<int32_t>(j);
      op_[static_cast<size_t>(j)] = kInsert;
    }
  }

  // The distance of `hyp`, whose first `same` words are those of the call before.
  int64_t operator()(const Words& hyp, int64_t same) {
    for (int64_t i = same + 1; i <= hyp_len_; ++i) row(i, hyp[static_cast<size_t>(i - 1)]);
    return cost_.back();
  }

  // The operations of the last call, front to back.
  std::string trace() const {
    std::string out;
    for (int64_t i = hyp_len_, j = ref_len_; i > 0 || j > 0;) {
      const char op = op_[static_cast<size_t>(cell(i, j))];
      QKV_CHECK(op != kNone, kInternal, "ter: the trace left the beam at {}, {}", i, j);
      out += op;
      i -= op != kInsert;
      j -= op != kDelete;
    }
    std::reverse(out.begin(), out.end());
    return out;
  }

 private:
  int64_t cell(int64_t i, int64_t j) const {
    return offset_[static_cast<size_t>(i)] + j - begin_[static_cast<size_t>(i)];
  }

  void row(int64_t i, uint32_t word) {
    const auto at = static_cast<size_t>(i);
    const int64_t begin = begin_[at], end = begin + offset_[at + 1] - offset_[at];
    const int64_t above_begin = begin_[at - 1], above_end = above_begin + offset_[at] - offset_[at - 1];
    const int32_t* above = cost_.data() + offset_[at - 1];
    const auto above_at = [&](int64_t j) {
      return j >= above_begin && j < above_end ? above[j - above_begin] : kUnreached;
    };
    int32_t* cost = cost_.data() + offset_[at];
    char* op = op_.data() + offset_[at];
    int32_t left = kUnreached;
    for (int64_t j = begin; j < end; ++j) {
      int32_t best = kUnreached;
      char best_op = kNone;
      const auto offer = [&](int32_t c, char o) {
        if (best > c) best = c, best_op = o;
      };
      // tercom prefers keeping or replacing, then insertion, then deletion; seen from this side, where the
      // trace will be flipped, the last two change places.
      if (j > 0) {
        const bool equal = word == ref_[static_cast<size_t>(j - 1)];
        offer(above_at(j - 1) + (equal ? 0 : 1), equal ? kKeep : kReplace);
      }
      offer(above_at(j) + 1, kDelete);
      offer(left + 1, kInsert);
      cost[j - begin] = left = best;
      op[j - begin] = best_op;
    }
  }

  std::span<const uint32_t> ref_;
  int64_t hyp_len_, ref_len_, beam_;
  double ratio_;
  std::vector<int64_t> begin_, offset_;  // row i holds columns begin_[i] .. of the matrix, from offset_[i] on
  std::vector<int32_t> cost_;
  std::vector<char> op_;
};

// Which hypothesis word each reference word belongs to (-1: before the first), and running counts of errors,
// so that "an error within this run" is one subtraction.
struct Alignment {
  std::vector<int64_t> hyp_of_ref;
  std::vector<int64_t> hyp_errors{0}, ref_errors{0};

  explicit Alignment(const std::string& trace) {
    int64_t hyp = -1;
    const auto count = [](std::vector<int64_t>& errors, bool error) {
      errors.push_back(errors.back() + error);
    };
    for (const char op : trace) {
      if (op != kInsert) {  // takes a hypothesis word
        ++hyp;
        count(hyp_errors, op != kKeep);
      }
      if (op != kDelete) {  // takes a reference word
        hyp_of_ref.push_back(hyp);
        count(ref_errors, op != kKeep);
      }
    }
  }

  static bool error_in(const std::vector<int64_t>& errors, int64_t begin, int64_t length) {
    return errors[static_cast<size_t>(begin + length)] > errors[static_cast<size_t>(begin)];
  }
};

// `words` with the run [start, start + length) moved to `target`, a place among the words as they are; a
// target within the run moves it that far to the right.
Words moved(const Words& words, int64_t start, int64_t length, int64_t target) {
  Words out = words;
  const auto at = [&](int64_t i) {
    return out.begin() + std::min<int64_t>(i, static_cast<int64_t>(out.size()));
  };
  if (target < start) {
    std::rotate(at(target), at(start), at(start + length));
  } else if (target > start + length) {
    std::rotate(at(start), at(start + length), at(target));
  } else {
    std::rotate(at(start), at(start + length), at(length + target));
  }
  return out;
}

struct Move {
  int64_t gain = 0, length = 0, start = 0, target = 0;
  bool found = false;

  bool better_than(const Move& other) const {
    return !other.found || std::tuple(gain, length, -start, -target) >
                               std::tuple(other.gain, other.length, -other.start, -other.target);
  }
};

// The best move for `hyp`. Adds to `candidates` what it tried.
Move best_move(const Words& hyp, std::span<const uint32_t> ref, BeamDistance& distance, int64_t before,
               int64_t& candidates) {
  const Alignment align(distance.trace());
  const auto hyp_len = static_cast<int64_t>(hyp.size()), ref_len = static_cast<int64_t>(ref.size());
  Move best;
  int64_t same = hyp_len;  // words that hyp and the last candidate share at the front

  const auto try_run = [&](int64_t start, int64_t at, int64_t length) {
    if (!Alignment::error_in(align.hyp_errors, start, length)) return;
    if (!Alignment::error_in(align.ref_errors, at, length)) return;
    const int64_t aligned = align.hyp_of_ref[static_cast<size_t>(at)];
    if (start <= aligned && aligned < start + length) return;
    int64_t tried = -1;
    for (int64_t offset = -1; offset < length; ++offset) {
      const int64_t target = at + offset == -1 ? 0 : align.hyp_of_ref[static_cast<size_t>(at + offset)] + 1;
      if (target == tried) continue;
      tried = target;
      const int64_t first_changed = std::min(start, target);
      const int64_t now = distance(moved(hyp, start, length, target), std::min(same, first_changed));
      same = first_changed;
      ++candidates;
      const Move move{before - now, length, start, target, true};
      if (move.better_than(best)) best = move;
    }
  };

  for (int64_t start = 0; start < hyp_len; ++start) {
    const int64_t last = std::min(ref_len - 1, start + kMaxMoveDistance);
    for (int64_t at = std::max<int64_t>(0, start - kMaxMoveDistance); at <= last; ++at) {
      const int64_t longest = std::min({kMaxMoveSize, hyp_len - start, ref_len - at});
      for (int64_t length = 1; length <= longest; ++length) {
        if (hyp[static_cast<size_t>(start + length - 1)] != ref[static_cast<size_t>(at + length - 1)]) break;
        try_run(start, at, length);
        if (candidates >= kMaxCandidates) return best;
      }
    }
  }
  return best;
}

}  // namespace

int64_t translation_edits(std::span<const uint32_t> hyp, std::span<const uint32_t> ref) {
  if (ref.empty()) return static_cast<int64_t>(hyp.size());
  Words words(hyp.begin(), hyp.end());
  BeamDistance distance(static_cast<int64_t>(words.size()), ref);
  int64_t moves = 0, candidates = 0;
  while (true) {
    const int64_t edits = distance(words, 0);
    const Move move = best_move(words, ref, distance, edits, candidates);
    if (candidates >= kMaxCandidates || !move.found || move.gain <= 0) return moves + edits;
    words = moved(words, move.start, move.length, move.target);
    ++moves;
  }
}

}  // namespace qkv::scores
