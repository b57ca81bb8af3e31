#pragma once
// For pre-tokenizers that spell words anew.

#include "qkv/text/pre_tokenizers/pre_tokenizer.h"

namespace qkv::text {

/// write(word, begin, edit) writes the new spelling of each word; `begin` is where it lies in the old text,
/// for edit.keep and edit.put. What lies in no word is left out of the new text.
template <class Write>
void rewrite_words(Words& words, Write&& write) {
  TextEdit edit(words.text);
  std::vector<Span> spans;
  spans.reserve(words.spans.size());
  for (const Span& span : words.spans) {
    const auto begin = static_cast<uint32_t>(edit.size());
    write(words.word(span), static_cast<size_t>(span.begin), edit);
    const auto end = static_cast<uint32_t>(edit.size());
    if (begin < end) spans.push_back({begin, end});
  }
  // A first word that did not begin the text (white space before it was dropped) must not seem to.
  const bool at_start = words.text.at_start && !words.spans.empty() && words.spans.front().begin == 0;
  words.text = edit.take();
  words.text.at_start = at_start;
  words.spans = std::move(spans);
}

}  // namespace qkv::text
