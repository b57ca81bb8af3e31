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
  Precision precision = default_compute_dtype();  // that of the model, if it was loaded for one
  decode::SearchOptions search;                   // start, eos and pad are the model's, whatever stands here
  int64_t batch_sentences = 64;  // sentences searched together; changes speed and memory, never the output
  int64_t max_source_tokens =
      200;  // a longer line is cut at word boundaries, its parts translated and joined
  std::vector<std::string>
      prefix;  // each line's forced beginning of the target, or empty; one for all, or one a line
  const HeadControls* head_controls = nullptr;  // heads to switch, weaken or disturb; null: none
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

/// What each token looked at, by layer and head: recomputed exactly for a source and a finished translation.
/// Row t of the target is the step that chose target_ids[t]. That step has read the start token and
/// target_ids[0 .. t - 1]; column j of `decoder` is the j-th of these, and no step sees past column t.
struct AttentionMaps {
  std::vector<int32_t> source_ids, target_ids;  // with end tokens
  Tensor cross;    // [decoder_layers, n_heads, tgt_len, src_len] f32: the translation looks at the source
  Tensor encoder;  // [encoder_layers, n_heads, src_len, src_len]: the source looks at itself
  Tensor decoder;  // [decoder_layers, n_heads, tgt_len, tgt_len]: the translation looks at itself
};

class Translator {
 public:
  /// int8 stays with a model that was not loaded for it.
  Translator(TranslationModel model, const TranslateOptions& options);

  /// Result n belongs to line n. Lines of white space alone give empty results. Errors: kValue (text that is
  /// not UTF-8, naming the line; options out of range).
  std::vector<Translation> translate(const std::vector<std::string>& lines) const;

  /// One pass over the finished sentence. sites as for Probe: "cross", "encoder", "decoder", or none for all;
  /// maps of the others stay undefined and cost nothing. Errors: kValue (ids or lengths out of range).
  AttentionMaps explain(const std::vector<int32_t>& source_ids, const std::vector<int32_t>& target_ids,
                        const std::vector<std::string>& sites = {}) const;

  /// Longer lines are cut: the option, or what the model has positions for.
  int64_t max_source_tokens() const { return options_.max_source_tokens; }
  const TranslationModel& model() const { return model_; }

 private:
  std::vector<std::vector<int32_t>> cut(const std::vector<int32_t>& ids) const;

  TranslationModel model_;
  TranslateOptions options_;
};

}  // namespace qkv
