#include "qkv/decode/next_tokens.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "qkv/base/parallel.h"
#include "qkv/base/trace.h"
#include "qkv/kernels/table.h"

namespace qkv::decode {
namespace {
constexpr float kNever = -std::numeric_limits<float>::infinity();
}

void NextTokens::score(const SearchPlan& plan, int64_t position, std::span<const int32_t> sentences,
                       const Tensor& logits) {
  const trace::Span span("next_tokens");
  const auto rows = static_cast<int64_t>(sentences.size());
  QKV_CHECK(logits.defined() && logits.rank() == 2 && logits.size(0) == rows && logits.is_contiguous(),
            kShape, "{}: the model gave logits {}, needs contiguous [{}, vocab_size]", plan.operation(),
            logits.defined() ? logits.shape().str() : "of no shape", rows);
  const int64_t vocab_size = logits.size(1);
  float* const data = logits.data<float>();

  tokens_.resize(static_cast<size_t>(rows * k_));
  counts_.resize(static_cast<size_t>(rows));
  ends_.resize(static_cast<size_t>(rows));
  log_sums_.resize(static_cast<size_t>(rows));
  parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    RowScan scan(vocab_size);
    std::vector<RowScan::Entry> entries(static_cast<size_t>(k_));
    for (int64_t row = begin; row < end; ++row)
      score_row(plan, position, sentences[static_cast<size_t>(row)], row, vocab_size, data + row * vocab_size,
                scan, entries.data());
  });

  for (int64_t row = 0; row < rows; ++row) {  // after the threads, so that the first bad row is the one named
    const auto r = static_cast<size_t>(row);
    QKV_CHECK(
        std::isfinite(log_sums_[r]), kNotFinite,
        "{}: the logits of sentence {} at position {} hold NaN or infinity; the model's weights are damaged "
        "or its training diverged",
        plan.operation(), sentences[r], position);
    QKV_CHECK(
        counts_[r] > 0 || ends_[r] > kNever, kValue,
        "{}: sentence {} at position {}: every token is banned ({}) or has probability zero, and it may not "
        "end (min_length {})",
        plan.operation(), sentences[r], position, plan.never().size(), plan.options().min_length);
  }
}

void NextTokens::score_row(const SearchPlan& plan, int64_t position, int32_t sentence, int64_t row,
                           int64_t vocab_size, float* logits, RowScan& scan, RowScan::Entry* entries) {
  const auto r = static_cast<size_t>(row);
  scan.begin(logits);
  // The kernel's -log softmax of the largest logit is the log of sum exp(logit - largest): taken there, the
  // subtraction of the two large numbers is exact. NaN and infinity come out as NaN.
  const int32_t likeliest = scan.argmax();
  const float largest = logits[likeliest];
  float log_sum = 0;
  kernels::table().f32.rows.cross_entropy(vocab_size, logits, likeliest, 0.0f, 1.0f, nullptr, &log_sum);
  log_sums_[r] = log_sum;
  // min: rounding must not make a log-probability positive, for then more tokens could raise a score.
  const auto log_prob = [&](float logit) { return std::min(0.0f, (logit - largest) - log_sum); };

  TokenScore* const out = tokens_.data() + row * k_;
  if (const int32_t forced = plan.forced(sentence, position); forced >= 0) {
    out[0] = {forced, log_prob(logits[forced])};
    counts_[r] = out[0].log_prob > kNever ? 1 : 0;
    ends_[r] = kNever;
    return;
  }
  const int32_t eos = plan.options().eos_id;
  ends_[r] = plan.may_end(position) ? log_prob(logits[eos]) : kNever;
  scan.remove(eos);
  for (const int32_t id : plan.never()) scan.remove(id);
  counts_[r] = scan.top(k_, entries);
  for (int64_t i = 0; i < counts_[r]; ++i) out[i] = {entries[i].id, log_prob(entries[i].value)};
}

}  // namespace qkv::decode
