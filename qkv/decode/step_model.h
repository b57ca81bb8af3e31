#pragma once
// What a search needs of a model: the distribution of the next token, for a batch of unfinished sentences.

#include <cstdint>
#include <span>

#include "qkv/tensor/tensor.h"

namespace qkv::decode {

/// A model that has read its sources and now writes one token a step. It keeps a state of one row for each
/// unfinished hypothesis (key-value caches, in a Transformer); the search says what becomes of the rows.
///
///     step(ids = {start, start},     parents = {0, 1})            two sentences begin: a row each
///     step(ids = {7, 9, 4},          parents = {0, 0, 1})         the first has grown to a beam of two
///     step(ids = {3, 8},             parents = {1, 0})            the second sentence has left
///
/// What step() computes for a row must depend on that row's sentence and history alone, not on the other
/// rows: the search keeps the promise that a batch changes nothing only if the model does.
class StepModel {
 public:
  virtual ~StepModel() = default;

  virtual int64_t vocab_size() const = 0;
  virtual int64_t n_sentences() const = 0;
  /// Source tokens of a sentence: the width of its attention rows, and what length limits are relative to.
  virtual int64_t src_len(int64_t sentence) const = 0;

  /// Replaces the state: row r of the new one is row parents[r] of the old one continued by token ids[r]. At
  /// the first step parents[r] is the sentence. The rows of a sentence lie together, sentences in ascending
  /// order; a row of the old state may have no successor, or several. logits becomes [rows, vocab_size] f32,
  /// contiguous, over what follows ids[r]; the search overwrites it.
  virtual void step(std::span<const int32_t> ids, std::span<const int32_t> parents, Tensor& logits) = 0;

  /// Called once before the first step by a search that will ask for attention(). False: there is none to
  /// give.
  virtual bool watch_attention() { return false; }
  /// Of row r of the last step: the weights that it gave to the source positions, [src_len of its sentence],
  /// sum 1 (a mean over heads; the model's adapter says of which layer). Valid until the next step.
  virtual std::span<const float> attention(int64_t row) const {
    (void)row;
    return {};
  }
};

}  // namespace qkv::decode
