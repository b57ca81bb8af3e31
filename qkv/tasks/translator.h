#pragma once
// Sentences in, sentences out: text -> ids -> encoder -> search -> ids -> text.

#include <functional>
#include <string>
#include <vector>

#include "qkv/attention/probe.h"
#include "qkv/decode/hypothesis.h"
#include "qkv/decode/search_options.h"
#include "qkv/tasks/translation_model.h"

namespace qkv {

struct TranslateOptions {
  DType dtype = default_compute_dtype();  // of activations
  decode::SearchOptions search;           // start, eos and pad are the model's, whatever stands here
  int64_t batch_sentences = 64;  // sentences searched together; changes speed and memory, never the output
  int64_t max_source_tokens =
      200;  // a longer line is cut at word boundaries, its parts translated and joined
  std::vector<std::string>
      prefix;  // each line's forced beginning of the target, or empty; one for all, or one a line
};

/// What became of one line.
struct Translation {
  struct Candidate {
    std::string text;
    decode::Hypothesis hypothesis;  // of a cut line: of its last part
    double score = 0;
  };
  std::vector<Candidate> n_best;  // best first; empty for an empty line
  std::vector<int32_t> source_ids;
  bool was_cut = false;             // longer than max_source_tokens
  const std::string& text() const;  // the best candidate's, or ""
};

/// Where each output token looked, by layer and head, recomputed exactly for a source and a finished
/// translation.
struct CrossAttention {
  std::vector<int32_t> source_ids, target_ids;  // with end tokens
  Tensor weights;  // [n_layers, n_heads, tgt_len, src_len] f32: row t is the step that produced target_ids[t]
};

class Translator {
 public:
  Translator(TranslationModel model, const TranslateOptions& options);

  /// Result n belongs to line n. Lines of white space alone give empty results. Errors: kValue (text that is
  /// not UTF-8, naming the line; options out of range).
  std::vector<Translation> translate(const std::vector<std::string>& lines) const;

  CrossAttention explain(const std::vector<int32_t>& source_ids,
                         const std::vector<int32_t>& target_ids) const;

  const TranslationModel& model() const { return model_; }

 private:
  std::vector<std::vector<int32_t>> cut(const std::vector<int32_t>& ids) const;

  TranslationModel model_;
  TranslateOptions options_;
};

}  // namespace qkv
