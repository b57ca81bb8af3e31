#pragma once
// Where each sequence of a packed batch begins. Ruling 1 of the design: tokens are rows. Inside a model an
// activation is [n_tokens, d_model] with the sequences back to back and no padding; Segments travels beside
// it and attention alone reads it.

#include <cstdint>
#include <vector>

namespace qkv {

/// The sequences of a packed batch: sequence b occupies rows begin(b) .. begin(b) + length(b) - 1 and has
/// past(b) earlier tokens in its cache (0 in training), so its row r has absolute position
/// past(b) + r - begin(b). A sequence of length 0 is allowed.
class Segments {
 public:
  Segments() = default;
  /// Lengths of the sequences; `past` empty means no sequence has one. Errors: kValue: a negative length or
  /// past; kShape: lists of different sizes; kFormat: positions or rows that no int64_t counts.
  explicit Segments(const std::vector<int64_t>& lengths, std::vector<int64_t> past = {});

  int64_t size() const { return static_cast<int64_t>(begin_.size()) - 1; }  // number of sequences
  int64_t n_tokens() const { return begin_.back(); }
  int64_t begin(int64_t b) const { return begin_[b]; }
  int64_t length(int64_t b) const { return begin_[b + 1] - begin_[b]; }
  int64_t past(int64_t b) const { return past_.empty() ? 0 : past_[b]; }
  int64_t max_length() const;

 private:
  std::vector<int64_t> begin_{0};  // size() + 1 entries; the last is n_tokens
  std::vector<int64_t> past_;
};

}  // namespace qkv
