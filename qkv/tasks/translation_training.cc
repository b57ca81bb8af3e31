#include "qkv/tasks/translation_training.h"

#include <cmath>

#include "qkv/autograd/ops/cross_entropy.h"
#include "qkv/base/parallel.h"
#include "qkv/io/sha256.h"
#include "qkv/scores/bleu.h"
#include "qkv/tasks/translator.h"

namespace qkv {
namespace {

std::vector<PairIds> tokenize(const TranslationModel& model, const ParallelText& text) {
  std::vector<PairIds> pairs(text.source.size());
  parallel_for(static_cast<int64_t>(pairs.size()), 256, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      pairs[i] = {.source = model.source_tokenizer->encode(text.source[i]),
                  .target = model.target_tokenizer->encode(text.target[i])};
  });
  return pairs;
}

}  // namespace

void TranslationTrainingOptions::check(int64_t max_len) const {
  batches.check();
  QKV_CHECK(batches.max_length <= max_len, kValue, "train: max_length ({}) is over the model's max_len ({})",
            batches.max_length, max_len);
  QKV_CHECK(label_smoothing >= 0 && label_smoothing < 1, kValue,
            "train: label_smoothing is {}, needs to be at least 0 and below 1", label_smoothing);
  QKV_CHECK(r_drop >= 0, kValue, "train: r_drop is {}, needs to be at least 0", r_drop);
  QKV_CHECK(save_dtype == DType::kF32 || save_dtype == DType::kBF16, kValue,
            "train: save_dtype is {}, needs to be f32 or bf16", name(save_dtype));
  QKV_CHECK(bleu_sentences >= 0 && bleu_beam >= 1 && bleu_beam <= 1000, kValue,
            "train: bleu_sentences ({}) and bleu_beam ({}) need to be at least 0, and 1 to 1000",
            bleu_sentences, bleu_beam);
  scores::parse_bleu_tokenizer(bleu_tokenize);
}

TranslationTrainee::TranslationTrainee(TranslationModel model, const ParallelText& training,
                                       const ParallelText& validation,
                                       const TranslationTrainingOptions& options)
    : model_(std::move(model)),
      options_(options),
      training_(tokenize(model_, training)),
      validation_(tokenize(model_, validation)),
      plan_(training_, options.batches) {
  options.check(model_.transformer->config().max_len);
  BatchPlan(validation_, options.batches);  // refuses now what the first validation would trip over
  const int64_t n = std::min<int64_t>(options.bleu_sentences, static_cast<int64_t>(validation.source.size()));
  sample_sources_.assign(validation.source.begin(), validation.source.begin() + n);
  sample_references_.assign(validation.target.begin(), validation.target.begin() + n);
}

int64_t TranslationTrainee::training_target_tokens() const {
  int64_t n = 0;
  for (const PairIds& pair : training_) n += static_cast<int64_t>(pair.target.size());
  return n;
}

std::string TranslationTrainee::fingerprint() {
  io::Sha256 hash;
  const BatchOptions& b = options_.batches;
  hash.update(fmt::format("{} {} {} {}", b.batch_tokens, b.max_length, b.bucket_batches, b.seed));
  for (const PairIds& pair : training_)
    for (const std::vector<int32_t>* ids : {&pair.source, &pair.target}) {
      const auto length = static_cast<int64_t>(ids->size());
      hash.update(std::as_bytes(std::span(&length, 1)));
      hash.update(std::as_bytes(std::span(*ids)));
    }
  return hash.hex();
}

std::string TranslationTrainee::vocabulary_fingerprint() {
  io::Sha256 hash;
  for (const auto& tokenizer : {model_.source_tokenizer, model_.target_tokenizer})
    hash.update(tokenizer->to_json());
  return hash.hex();
}

int64_t TranslationTrainee::begin_epoch(int64_t epoch) {
  epoch_ = plan_.epoch(epoch);
  return static_cast<int64_t>(epoch_.size());
}

int64_t TranslationTrainee::target_tokens(int64_t batch) {
  int64_t n = 0;
  for (int32_t i : epoch_[batch]) n += static_cast<int64_t>(training_[i].target.size());
  return n;
}

LossSums TranslationTrainee::loss(const TranslationBatch& batch, Pass& pass, double smoothing, double scale,
                                  bool train) const {
  const Transformer& model = *model_.transformer;
  // Each call takes fresh random streams of the pass, so a second one drops out other features.
  const auto hidden = [&] {
    const Var memory = model.encode(pass, batch.source, batch.source_segments);
    return model.decode(pass, batch.target_in, batch.target_segments, memory, batch.source_segments);
  };
  const Var once = hidden();
  const CrossEntropy ce = train && options_.r_drop > 0
                              ? r_drop(once, hidden(), model.output_weight(), model.output_bias(),
                                       batch.target_out, smoothing, options_.r_drop, scale)
                              : cross_entropy(once, model.output_weight(), model.output_bias(),
                                              batch.target_out, smoothing, scale);
  if (train) backward(ce.loss);
  return {.loss = ce.loss_sum, .nll = ce.nll_sum, .n = ce.n};
}

LossSums TranslationTrainee::accumulate_gradients(int64_t batch, Pass& pass, double scale) {
  return loss(pack_batch(training_, epoch_[batch], model_.transformer->config().start_id), pass,
              options_.label_smoothing, scale, true);
}

Validation TranslationTrainee::validate() {
  NoGrad off;
  LossSums sums;
  const int32_t start = model_.transformer->config().start_id;
  BatchOptions batches = options_.batches;
  const BatchPlan plan(validation_, batches);
  for (const std::vector<int32_t>& indices : plan.epoch(0)) {
    Pass pass = Pass::running(options_.dtype);
    const LossSums part =
        loss(pack_batch(validation_, indices, start), pass, options_.label_smoothing, 1, false);
    sums.loss += part.loss;
    sums.nll += part.nll;
    sums.n += part.n;
  }
  const double n = static_cast<double>(std::max<int64_t>(1, sums.n));
  Validation v{.loss = sums.loss / n, .perplexity = std::exp(sums.nll / n)};
  if (!sample_sources_.empty()) {
    TranslateOptions translate{.precision = options_.dtype};
    translate.search.beam_size = options_.bleu_beam;
    const Translator translator(model_, translate);
    std::vector<std::string> hypotheses;
    for (const Translation& t : translator.translate(sample_sources_)) hypotheses.push_back(t.text());
    v.score = scores::corpus_bleu(hypotheses, {sample_references_},
                                  {.tokenize = scores::parse_bleu_tokenizer(options_.bleu_tokenize)})
                  .score;
    v.score_name = "bleu";
  }
  return v;
}

}  // namespace qkv
