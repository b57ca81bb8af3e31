#pragma once
// The likeliest token, again and again.

#include <vector>

#include "qkv/decode/hypothesis.h"
#include "qkv/decode/search_options.h"
#include "qkv/decode/step_model.h"

namespace qkv::decode {

/// One hypothesis a sentence, in the model's order: at each step the likeliest allowed token (of equals the
/// lowest id), until that is eos or the sentence has its maximum length. The same as beam_search with
/// beam_size 1, written as its definition says. beam_size, n_best and patience are not looked at.
///
/// Errors as beam_search.
std::vector<Hypothesis> greedy_search(StepModel& model, const SearchOptions& options);

}  // namespace qkv::decode
