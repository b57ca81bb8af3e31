#pragma once
// Learning a byte-pair encoding from text.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/text/tokenizer.h"

namespace qkv {

enum class UnicodeForm { kNone, kNfc, kNfkc };

struct BpeTrainerOptions {
  /// Of the whole vocabulary: special tokens, alphabet and merges.
  int64_t vocab_size = 10000;

  /// A pair that occurs less often is not merged.
  int64_t min_frequency = 2;

  /// true: symbols are the 256 bytes, so any text has ids and decodes to itself (GPT-2's scheme).
  /// false: symbols are the characters seen, spaces written as "▁"; unseen characters become <unk>.
  bool byte_level = true;

  /// Puts a space before the text (and takes it away again in decode), so that a word has the same ids at the
  /// beginning of a sentence as inside it.
  bool prefix_space = true;

  /// Applied to text before anything else; decode() then gives back the normalised text.
  UnicodeForm form = UnicodeForm::kNone;
  bool lowercase = false;

  /// Ids 0, 1, ... in this order. No merge ever makes one of these.
  std::vector<std::string> special_tokens = {"<pad>", "</s>", "<unk>"};

  /// Put before and after every text by encode(); special tokens. Empty: nothing.
  std::string start_token, end_token = "</s>";

  /// In characters of the vocabulary's spelling (bytes, for byte_level); 0 means any length.
  int64_t max_token_length = 0;

  /// Where the data cannot give vocab_size: take what it gives instead of an Error.
  bool allow_smaller = false;
};

/// Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units" (2016),
/// arXiv:1508.07909, section 3.2 and algorithm 1: words start as sequences of symbols; the most frequent pair
/// of neighbours becomes a symbol of its own, again and again. Pairs do not cross words. Of equally frequent
/// pairs the lexicographically smaller is taken, so the result depends on the lines, not on their order.
///
/// For a joint vocabulary give the lines of both languages, for separate ones train twice.
/// Counts are updated where a merge changed them: O(text + changes * log(pairs)) in all.
/// Throws Error kValue: an empty or impossible option; a vocab_size smaller than special tokens and alphabet,
/// or larger than the data can give (the message says the largest possible); a line that is not UTF-8.
Tokenizer train_bpe(std::span<const std::string> lines, const BpeTrainerOptions& options = {});

/// The same from a stream: `next` puts a line into its argument, or returns false at the end.
Tokenizer train_bpe(const std::function<bool(std::string& line)>& next,
                    const BpeTrainerOptions& options = {});

}  // namespace qkv
