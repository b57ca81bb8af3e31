#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "qkv/base/segments.h"
#include "qkv/nn/parameter_set.h"

namespace qkv {

/// Sinusoidal positions [max_len, d] (Vaswani et al. 2017, section 3.5): with f_j = 10000^(-2j/d), feature j
/// of position p is sin(p f_j) and feature d/2 + j is cos(p f_j). The paper interleaves the two; the halves
/// are Marian's order and Hugging Face's, and differ from the paper's by a fixed permutation of features. d
/// even, or Error kValue.
Tensor sinusoidal_positions(int64_t max_len, int64_t d, DType dtype);

/// The vectors [max_len, d] that are added to embeddings: "sinusoidal" (computed, so not in the set),
/// "learned" (the parameter `name`, from N(0, deviation^2)), or null for "none". Error kValue for another
/// word; as above.
ParameterPtr position_table(const std::string& word, ParameterSet& set, const std::string& name,
                            int64_t max_len, int64_t d, double deviation);
/// Error kValue, beginning with `where`, for a word that is none of the three.
void check_position_table(const std::string& word, const std::string& where);

/// Where each row stands in its sequence: past(b), past(b) + 1, ... for sequence b. For embeddings, which
/// look up ids and places together: errors, beginning with `where`: kShape (n_ids is not the number of rows),
/// kValue (a sequence is longer than max_len).
std::vector<int32_t> places_of_rows(const Segments& segments, size_t n_ids, int64_t max_len,
                                    std::string_view where);

}  // namespace qkv
