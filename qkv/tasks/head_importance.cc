#include "qkv/tasks/head_importance.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "qkv/autograd/ops/cross_entropy.h"
#include "qkv/base/nearest.h"
#include "qkv/scores/bleu.h"
#include "qkv/scores/chrf.h"
#include "qkv/tasks/translator.h"

namespace qkv {
namespace {

constexpr int64_t kBatchTokens = 4096;

}  // namespace

HeadMetric head_metric_from_name(std::string_view text) {
  check_known("metric", text, {"loss", "bleu", "chrf"}, "heads");
  return text == "loss" ? HeadMetric::kLoss : text == "bleu" ? HeadMetric::kBleu : HeadMetric::kChrf;
}

std::string_view name(HeadMetric metric) {
  return metric == HeadMetric::kLoss ? "loss" : metric == HeadMetric::kBleu ? "bleu" : "chrf";
}

HeadImportance::HeadImportance(TranslationModel model, std::vector<std::string> sources,
                               std::vector<std::vector<std::string>> references,
                               const HeadImportanceOptions& options)
    : model_(std::move(model)),
      sources_(std::move(sources)),
      references_(std::move(references)),
      options_(options) {
  QKV_CHECK(!sources_.empty() && !references_.empty(), kValue,
            "head importance: needs a sentence pair at least");
  for (const auto& column : references_)
    QKV_CHECK(column.size() == sources_.size(), kValue, "head importance: {} sources and {} references",
              sources_.size(), column.size());
  const TransformerConfig& config = model_.transformer->config();
  for (size_t i = 0; i < sources_.size(); ++i) {
    PairIds pair{.source = model_.source_tokenizer->encode(sources_[i]),
                 .target = model_.target_tokenizer->encode(references_[0][i])};
    const auto longest = static_cast<int64_t>(std::max(pair.source.size(), pair.target.size()));
    QKV_CHECK(longest <= config.max_len, kUnsupported,
              "head importance: pair {} has {} tokens, the model's max_len is {}", i + 1, longest,
              config.max_len);
    pairs_.push_back(std::move(pair));
  }
  for (const char* site : {"encoder", "decoder", "cross"}) {
    const int64_t n = site == std::string_view("encoder") ? config.encoder_layers : config.decoder_layers;
    for (int64_t l = 0; l < n; ++l) {
      controls_.layers.push_back({.site = site,
                                  .layer = l,
                                  .gates = head_gates("gates", config.n_heads),
                                  .noise = std::vector<double>(static_cast<size_t>(config.n_heads))});
      for (int64_t h = 0; h < config.n_heads; ++h) heads_.push_back({site, l, h});
    }
  }
}

void HeadImportance::drop(size_t head, bool dropped) {
  const auto n_heads = static_cast<size_t>(model_.transformer->config().n_heads);
  controls_.layers.at(head / n_heads).gates->value().data<float>()[head % n_heads] = dropped ? 0.0f : 1.0f;
}

void HeadImportance::disturb(size_t head, double noise) {
  const auto n_heads = static_cast<size_t>(model_.transformer->config().n_heads);
  controls_.layers.at(head / n_heads).noise[head % n_heads] = noise;
}

double HeadImportance::measure() const { return options_.metric == HeadMetric::kLoss ? loss() : score(); }

double HeadImportance::harm(double value, double than) const {
  return options_.metric == HeadMetric::kLoss ? value - than : than - value;
}

double HeadImportance::loss() const {
  const NoGrad off;
  const Transformer& model = *model_.transformer;
  double sum = 0;
  int64_t n = 0;
  const BatchPlan plan(pairs_, {.batch_tokens = kBatchTokens, .max_length = model.config().max_len});
  for (const std::vector<int32_t>& indices : plan.epoch(0)) {
    const TranslationBatch batch = pack_batch(pairs_, indices, model.config().start_id);
    Pass pass = Pass::running(options_.dtype);
    Probe probe = probe_with(&controls_);
    const Var memory = model.encode(pass, batch.source, batch.source_segments, &probe);
    const Var hidden =
        model.decode(pass, batch.target_in, batch.target_segments, memory, batch.source_segments, &probe);
    const CrossEntropy ce =
        cross_entropy(hidden, model.output_weight(), model.output_bias(), batch.target_out, 0, 1);
    sum += ce.nll_sum;
    n += ce.n;
  }
  return sum / static_cast<double>(n);
}

double HeadImportance::score() const {
  TranslateOptions options{.precision = options_.dtype};
  options.head_controls = &controls_;
  options.search.beam_size = options_.beam_size;
  const Translator translator(model_, options);
  std::vector<std::string> hypotheses;
  for (const Translation& t : translator.translate(sources_)) hypotheses.push_back(t.text());
  return options_.metric == HeadMetric::kBleu ? scores::corpus_bleu(hypotheses, references_).score
                                              : scores::corpus_chrf(hypotheses, references_).score;
}

std::vector<PruneStep> prune_greedily(HeadImportance& heads,
                                      const std::function<void(int64_t, int64_t)>& on_measure) {
  const auto n = static_cast<int64_t>(heads.heads().size());
  int64_t measured = 0;
  std::vector<PruneStep> steps;
  std::vector<size_t> left;
  for (size_t h = 0; h < heads.heads().size(); ++h) left.push_back(h);
  while (!left.empty()) {
    std::optional<PruneStep> best;
    for (const size_t h : left) {
      heads.drop(h);
      const double value = heads.measure();
      heads.drop(h, false);
      if (!best || heads.harm(value, best->value) < 0) best = PruneStep{.head = h, .value = value};
      if (on_measure) on_measure(++measured, n * (n + 1) / 2);
    }
    heads.drop(best->head);
    std::erase(left, best->head);
    steps.push_back(*best);
  }
  for (const PruneStep& step : steps) heads.drop(step.head, false);
  return steps;
}

}  // namespace qkv
