#pragma once
// Beam search over a batch of sentences.

#include <vector>

#include "qkv/decode/hypothesis.h"
#include "qkv/decode/search_options.h"
#include "qkv/decode/step_model.h"

namespace qkv::decode {

/// The n best hypotheses of each sentence, in the model's order; each list is sorted and its hypotheses
/// differ.
///
/// At each step all one-token continuations of a sentence's live hypotheses are ordered by log P of the whole
/// (equal ones: lower token id first, then the better parent). Of the first beam_size of them those that end
/// with eos are finished; the first beam_size that do not end live on. (fairseq's rule: an unlikely end is
/// not taken, so that the best of many steps' ends is not simply the shortest.) Finished hypotheses are
/// ranked by the score of length_penalty.h. A sentence leaves the batch when SearchOptions::patience says so,
/// and at its maximum length, where live hypotheses are cut off: those rank below all that ended, however
/// likely they are, since a model that repeats itself for ever is very sure of each word.
///
/// With patience = infinity nothing that the beam could still find is left out, so a beam wide enough to hold
/// every prefix is an exhaustive search.
///
/// The result of a sentence depends on that sentence alone, whatever else is in the batch and however many
/// threads run; equal scores go to what was found first. Memory: 40 bytes a token written, and where
/// attention is used src_len floats a row and step.
///
/// Throws Error: kValue (options out of range; no token allowed), kNotFinite (logits), kShape (prefixes or
/// the model's answers have wrong sizes), kUnsupported (attention wanted of a model that has none), and
/// whatever the model throws.
std::vector<NBest> beam_search(StepModel& model, const SearchOptions& options);

}  // namespace qkv::decode
