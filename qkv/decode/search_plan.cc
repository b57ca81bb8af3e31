#include "qkv/decode/search_plan.h"

#include <algorithm>
#include <cmath>

namespace qkv::decode {

SearchPlan::SearchPlan(StepModel& model, const SearchOptions& options, std::string operation)
    : options_(options), operation_(std::move(operation)) {
  const SearchOptions& o = options_;
  const int64_t vocab_size = model.vocab_size(), n_sentences = model.n_sentences();
  const auto check_id = [&](int32_t id, const char* what) {
    QKV_CHECK(id >= 0 && id < vocab_size, kValue, "{}: {} is {}, needs to be in 0 .. {}", operation_, what,
              id, vocab_size - 1);
  };
  check_id(o.start_id, "start_id");
  check_id(o.eos_id, "eos_id");
  if (o.pad_id != -1) check_id(o.pad_id, "pad_id");
  for (const int32_t id : o.banned_ids) {
    check_id(id, "a banned id");
    QKV_CHECK(id != o.eos_id, kValue,
              "{}: eos_id ({}) is among the banned ids; use min_length to delay the end", operation_, id);
  }
  QKV_CHECK(o.beam_size >= 1 && o.beam_size <= 1000, kValue, "{}: beam_size is {}, needs to be in 1 .. 1000",
            operation_, o.beam_size);
  QKV_CHECK(o.n_best >= 1 && o.n_best <= o.beam_size, kValue,
            "{}: n_best is {}, needs to be in 1 .. beam_size ({})", operation_, o.n_best, o.beam_size);
  QKV_CHECK(std::abs(o.length_penalty) <= kMostLengthPenalty, kValue,
            "{}: length_penalty is {}, needs to be in -{} .. {}", operation_, o.length_penalty,
            kMostLengthPenalty, kMostLengthPenalty);
  QKV_CHECK(o.coverage_penalty >= 0 && o.coverage_penalty <= kMostCoveragePenalty, kValue,
            "{}: coverage_penalty is {}, needs to be in 0 .. {}", operation_, o.coverage_penalty,
            kMostCoveragePenalty);
  QKV_CHECK(o.patience > 0, kValue, "{}: patience is {}, needs to be positive (infinity: exact)", operation_,
            o.patience);
  QKV_CHECK(o.max_length >= 1, kValue, "{}: max_length is {}, needs to be positive", operation_,
            o.max_length);
  QKV_CHECK(o.min_length >= 0 && o.min_length < o.max_length, kValue,
            "{}: min_length is {}, needs to be in 0 .. max_length - 1 ({})", operation_, o.min_length,
            o.max_length - 1);
  QKV_CHECK(o.max_length_factor >= 0 && std::isfinite(o.max_length_factor), kValue,
            "{}: max_length_factor is {}, needs to be finite and not negative", operation_,
            o.max_length_factor);
  QKV_CHECK(o.prefixes.empty() || static_cast<int64_t>(o.prefixes.size()) == n_sentences, kShape,
            "{}: {} prefixes for {} sentences; an empty list stands for none", operation_, o.prefixes.size(),
            n_sentences);
  for (const std::vector<int32_t>& prefix : o.prefixes) {
    QKV_CHECK(static_cast<int64_t>(prefix.size()) < o.max_length, kValue,
              "{}: a prefix of {} tokens leaves no room within max_length ({})", operation_, prefix.size(),
              o.max_length);
    for (const int32_t id : prefix) {
      check_id(id, "a prefix id");
      QKV_CHECK(id != o.eos_id, kValue, "{}: a prefix holds eos_id ({}), after which nothing can follow",
                operation_, id);
    }
  }
  QKV_CHECK(!uses_attention() || model.watch_attention(), kUnsupported,
            "{}: this model has no attention over a source, which {} needs", operation_,
            o.want_attention ? "want_attention" : "coverage_penalty");

  max_lengths_.resize(static_cast<size_t>(n_sentences));
  for (int64_t s = 0; s < n_sentences; ++s) {
    const int64_t prefix =
        o.prefixes.empty() ? 0 : static_cast<int64_t>(o.prefixes[static_cast<size_t>(s)].size());
    const double relative =
        o.max_length_factor * static_cast<double>(model.src_len(s)) + static_cast<double>(o.max_length_plus);
    const int64_t wanted =
        relative >= static_cast<double>(o.max_length) ? o.max_length : static_cast<int64_t>(relative);
    // max_length exceeds both min_length and the prefix, so this stays within it.
    max_lengths_[static_cast<size_t>(s)] = std::max({wanted, o.min_length + 1, prefix + 1});
  }

  never_ = o.banned_ids;
  if (o.pad_id != -1) never_.push_back(o.pad_id);
  never_.push_back(o.start_id);
  std::sort(never_.begin(), never_.end());
  never_.erase(std::unique(never_.begin(), never_.end()), never_.end());
  std::erase(never_, o.eos_id);
}

}  // namespace qkv::decode
