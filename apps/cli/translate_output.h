#pragma once
// How translations are shown: plain, n-best, JSON, with alignments, as a page.

#include <string>

#include "qkv/explain/attention_page.h"
#include "qkv/tasks/translator.h"

namespace qkv::cli {

struct OutputOptions {
  int64_t n_best = 0;  // 0: the best one, without number and score
  bool scores = false, align = false, json = false;
  bool draw = false;       // draw alignments instead of printing pairs
  bool color = false;      // of a drawing, where the terminal knows colours
  bool printable = false;  // for a terminal: nothing in a text can move its cursor (explain::printable)
};

/// What is printed for one line, its line end included. An empty line stays an empty line.
///
///   plain     translation [TAB score] [ ||| 0-0 1-2]
///   n-best    as plain, one candidate a line, each with its score: translation ||| score; an empty line ends
///   the list json      {"source", "translation", "score", "n_best": [{"text", "score"}]} on one line; with
///   align also "alignment"
///             ("0-0 1-2"), "source_words", "target_words" and "attention", a row of weights for each target
///             word
///   draw      with align, a picture (explain/terminal_map.h) below the translation instead of pairs
std::string format_translation(const Translator& translator, const std::string& source,
                               const Translation& result, const OutputOptions& options);

/// A page without sentences that names the model.
explain::AttentionPage new_page(const Translator& translator, const std::string& model);

inline constexpr size_t kPageSentences = 100;
enum class OnPage {
  kYes,
  kNothing,  // an empty line
  kCut,      // its parts were translated one by one: there is no one attention to show
  kFull      // beyond kPageSentences, or beyond explain::kMostPageWeights
};
/// Adds what a line's translation, its source and its translation again looked at.
OnPage add_to_page(explain::AttentionPage& page, const Translator& translator, const std::string& source,
                   const Translation& result);

}  // namespace qkv::cli
