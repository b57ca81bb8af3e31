#pragma once
// The options of a search, checked against the model and asked position by position.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "qkv/decode/search_options.h"
#include "qkv/decode/step_model.h"

namespace qkv::decode {

/// Positions count generated tokens: position 0 follows start_id.
class SearchPlan {
 public:
  /// `operation` begins the messages. Throws Error kValue (an option out of its range, an id outside the
  /// vocabulary), kShape (not one prefix a sentence), kUnsupported (attention wanted of a model that has
  /// none).
  SearchPlan(StepModel& model, const SearchOptions& options, std::string operation);

  const SearchOptions& options() const { return options_; }
  const std::string& operation() const { return operation_; }
  bool uses_attention() const { return options_.want_attention || options_.coverage_penalty > 0; }

  /// The most tokens that a sentence may get, eos included.
  int64_t max_length(int64_t sentence) const { return max_lengths_[static_cast<size_t>(sentence)]; }

  /// The only token allowed at a position, or -1.
  int32_t forced(int64_t sentence, int64_t position) const {
    if (options_.prefixes.empty()) return -1;
    const std::vector<int32_t>& prefix = options_.prefixes[static_cast<size_t>(sentence)];
    return position < static_cast<int64_t>(prefix.size()) ? prefix[static_cast<size_t>(position)] : -1;
  }
  bool may_end(int64_t position) const { return position >= options_.min_length; }

  /// What is generated nowhere: banned_ids, pad and start; without eos, sorted, no repetitions.
  std::span<const int32_t> never() const { return never_; }

 private:
  SearchOptions options_;
  std::string operation_;
  std::vector<int64_t> max_lengths_;
  std::vector<int32_t> never_;
};

}  // namespace qkv::decode
