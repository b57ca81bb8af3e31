#pragma once
// Which heads of a translation model matter: what becomes of a metric without them.
//
// Michel, Levy and Neubig, "Are Sixteen Heads Really Better than One?" (2019), arXiv:1905.10650, sections 3
// and 4; Voita et al., "Analyzing Multi-Head Self-Attention" (2019), arXiv:1905.09418.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/attention/heads/head_controls.h"
#include "qkv/tasks/translation_model.h"
#include "qkv/train/batches.h"

namespace qkv {

struct HeadPlace {
  std::string site;  // "encoder", "decoder", "cross"
  int64_t layer = 0, head = 0;
};

enum class HeadMetric {
  kLoss,  // nats a target token under teacher forcing, no smoothing: cheap, and moves with every weight
  kBleu,  // of translations: what counts in the end, in coarser steps
  kChrf,
};
HeadMetric head_metric_from_name(std::string_view name);  // loss, bleu, chrf; Error kValue
std::string_view name(HeadMetric metric);

struct HeadImportanceOptions {
  HeadMetric metric = HeadMetric::kLoss;
  DType dtype = default_compute_dtype();  // of activations
  int64_t beam_size = 1;                  // of kBleu and kChrf
};

/// A model and the sentence pairs on which its heads are judged. The model itself is left alone.
class HeadImportance {
 public:
  /// references[0] is what the loss reads; more of them are for kBleu and kChrf. Errors: kValue (no
  /// pairs, columns of different lengths), kUnsupported (a sentence longer than the model's max_len), what
  /// the tokenizer says.
  HeadImportance(TranslationModel model, std::vector<std::string> sources,
                 std::vector<std::vector<std::string>> references, const HeadImportanceOptions& options = {});

  /// All of them: encoder, decoder, cross, by layer and head.
  const std::vector<HeadPlace>& heads() const { return heads_; }
  /// A dropped head gives zeros. Numbers are places in heads().
  void drop(size_t head, bool dropped = true);
  /// Adds Gaussian noise to the head's output, of this standard deviation relative to its RMS; 0: none. The
  /// same noise at every measurement.
  void disturb(size_t head, double noise);

  /// The metric with the heads that are left.
  double measure() const;
  /// How much worse a value of the metric is than another: above 0 is worse, whatever the metric.
  double harm(double value, double than) const;

 private:
  double loss() const;
  double score() const;

  TranslationModel model_;
  std::vector<std::string> sources_;
  std::vector<std::vector<std::string>> references_;
  HeadImportanceOptions options_;
  std::vector<PairIds> pairs_;
  std::vector<HeadPlace> heads_;
  HeadControls controls_;  // its layers are n_heads entries of heads_ each
};

/// Heads dropped one after the other, for good: at each step the one whose loss harms least. Stops when none
/// is left. n (n + 1) / 2 measurements.
struct PruneStep {
  size_t head = 0;   // dropped in this step
  double value = 0;  // of the metric, after it
};
/// on_measure(done, total) after each measurement. All heads are back afterwards.
std::vector<PruneStep> prune_greedily(
    HeadImportance& heads, const std::function<void(int64_t done, int64_t total)>& on_measure = {});

}  // namespace qkv
