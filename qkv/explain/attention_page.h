#pragma once
// Every layer's and head's attention as one web page.

#include <cstdint>
#include <string>
#include <vector>

#include "qkv/tensor/tensor.h"

namespace qkv::explain {

struct PageToken {
  std::string text;      // as a reader should see it, without the blank of its piece
  bool joined = false;   // continues the word before it: written without a space between
  bool special = false;  // eos and its like: shown quietly
};

/// One kind of attention in one sentence: who looks (rows) at what (columns).
struct AttentionView {
  std::string name;          // on its tab: "Translation looks at source"
  std::string about;         // a sentence or two for the reader: who looks at what, and when
  std::string rows_name;     // "Translation"
  std::string columns_name;  // "Source"
  std::vector<PageToken> rows, columns;
  Tensor weights;  // [n_layers, n_heads, rows, columns] f32, each in 0 .. 1
};

struct PageSentence {
  std::string title;  // in the list of sentences
  std::vector<AttentionView> views;
};

struct AttentionPage {
  std::string title;
  std::string model;  // the line below: which model, how many parameters, ...
  std::vector<PageSentence> sentences;
};

inline constexpr int64_t kMostPageWeights = int64_t{1} << 25;  // 67 MB of page

/// The page: one HTML file that needs nothing besides itself and loads nothing from anywhere. Its content
/// security policy allows its own script and style alone, by hash. Texts are data in it and never markup,
/// whatever they hold (not UTF-8: U+FFFD). Weights are kept to 1/4095, 2 bytes each in the file.
///
/// It shows all heads as small maps, one of them large with its words, and lights up what a word looks at; by
/// mouse, touch and keyboard, light or dark as the reader's system is. Its source lies beside this file
/// (attention_page.html, .css, .js) and is embedded when qkv is built.
///
/// Error kShape (weights do not fit the tokens; a view without tokens, layers or heads), kValue (no sentence,
/// a sentence without views, or over kMostPageWeights: choose fewer sentences), kDtype.
std::string attention_page(const AttentionPage& page);

}  // namespace qkv::explain
