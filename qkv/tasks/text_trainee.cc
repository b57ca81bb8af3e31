#include "qkv/tasks/text_trainee.h"

#include <cmath>

#include "qkv/autograd/var.h"
#include "qkv/base/parallel.h"
#include "qkv/io/sha256.h"
#include "qkv/train/text_file.h"

namespace qkv {
namespace {

TokenStream tokenize(const Tokenizer& tokenizer, const std::vector<std::string>& documents,
                     int32_t separator) {
  std::vector<std::vector<int32_t>> ids(documents.size());
  parallel_for(static_cast<int64_t>(documents.size()), 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      ids[i] = tokenizer.encode(documents[i], /*add_special_tokens=*/false);
  });
  TokenStream stream;
  for (const std::vector<int32_t>& document : ids) {
    if (document.empty()) continue;
    stream.begins.push_back(static_cast<int64_t>(stream.ids.size()));
    if (separator >= 0) stream.ids.push_back(separator);
    stream.ids.insert(stream.ids.end(), document.begin(), document.end());
  }
  if (separator >= 0) stream.ids.push_back(separator);
  return stream;
}

}  // namespace

TextTrainee::TextTrainee(std::shared_ptr<Tokenizer> tokenizer, const TrainingText& text, int32_t separator,
                         const TextTrainingOptions& options)
    : tokenizer_(std::move(tokenizer)),
      options_(options),
      training_(tokenize(*tokenizer_, text.training, separator)),
      validation_(tokenize(*tokenizer_, text.validation, separator)),
      validation_bytes_(bytes_of(text.validation)),
      plan_(training_tokens() - (separator >= 0), options.windows),
      validation_plan_(validation_tokens() - (separator >= 0), options.windows) {}

void TextTrainingOptions::check(int64_t max_len) const {
  windows.check();
  QKV_CHECK(windows.length <= max_len, kValue, "train: context ({}) is over the model's max_len ({})",
            windows.length, max_len);
  QKV_CHECK(save_dtype == DType::kF32 || save_dtype == DType::kBF16, kValue,
            "train: save_dtype is {}, needs to be f32 or bf16", name(save_dtype));
}

CountingBaseline TextTrainee::baseline() const {
  return counting_baseline(training_.ids, validation_.ids, tokenizer_->vocab_size());
}

int64_t TextTrainee::begin_epoch(int64_t epoch) {
  epoch_ = plan_.epoch(epoch);
  return static_cast<int64_t>(epoch_.size());
}

int64_t TextTrainee::target_tokens(int64_t batch) {
  int64_t n = 0;
  for (const RowRange& window : epoch_[batch])
    for (const RowRange& part : parts_of(training_, window)) n += n_targets(part.size());
  return n;
}

LossSums TextTrainee::accumulate_gradients(int64_t batch, Pass& pass, double scale) {
  const RandomKey key = pass.next_key();
  return run(training_, epoch_[batch], pass, key, scale).sums;
}

Validation TextTrainee::validate() {
  const NoGrad off;
  Outcome all;
  uint32_t number = 0;  // of the batch: what is random in it is the same at every validation
  for (const std::vector<RowRange>& windows : validation_plan_.in_order()) {
    Pass pass = Pass::running(options_.dtype);
    const Outcome part =
        run(validation_, windows, pass, {.seed = options_.windows.seed, .step = number++}, 1);
    all.sums.loss += part.sums.loss;
    all.sums.nll += part.sums.nll;
    all.sums.n += part.sums.n;
    all.right += part.right;
  }
  const double n = static_cast<double>(std::max<int64_t>(1, all.sums.n));
  Validation v{.loss = all.sums.loss / n, .perplexity = std::exp(all.sums.nll / n), .score_name = ""};
  describe(all, v);
  return v;
}

std::string TextTrainee::fingerprint() {
  io::Sha256 hash;
  const WindowOptions& w = options_.windows;
  hash.update(fmt::format("{} {} {} {}", w.length, w.batch_tokens, w.seed, training_.begins.size()));
  hash.update(std::as_bytes(std::span(training_.begins)));
  hash.update(std::as_bytes(std::span(training_.ids)));
  return hash.hex();
}

std::string TextTrainee::vocabulary_fingerprint() {
  io::Sha256 hash;
  hash.update(tokenizer_->to_json());
  return hash.hex();
}

}  // namespace qkv
