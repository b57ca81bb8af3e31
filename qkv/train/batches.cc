#include "qkv/train/batches.h"

#include <algorithm>
#include <numeric>

#include "qkv/base/error.h"
#include "qkv/base/shuffle.h"

namespace qkv {
namespace {

constexpr uint32_t kShuffle = 0x5117;  // random streams of shuffling: sentences, then batches

void append(const std::vector<int32_t>& ids, std::vector<int32_t>& rows) {
  rows.insert(rows.end(), ids.begin(), ids.end());
}

}  // namespace

void BatchOptions::check() const {
  constexpr int64_t kMost = int64_t{1} << 30;  // products of two stay within 64 bits
  for (auto [name, value] : {std::pair{"batch_tokens", batch_tokens},
                             {"max_length", max_length},
                             {"bucket_batches", bucket_batches}})
    QKV_CHECK(value >= 1 && value <= kMost, kValue, "batches: {} is {}, needs to be 1 to {}", name, value,
              kMost);
}

BatchPlan::BatchPlan(const std::vector<PairIds>& pairs, const BatchOptions& options)
    : pairs_(pairs), options_(options) {
  options.check();
  for (size_t i = 0; i < pairs.size(); ++i) {
    if (pairs[i].source.empty() || pairs[i].target.empty()) {
      ++skipped_;
      continue;
    }
    const auto longest = std::max(pairs[i].source.size(), pairs[i].target.size());
    if (static_cast<int64_t>(longest) <= options.max_length)
      usable_.push_back(static_cast<int32_t>(i));
    else
      ++skipped_;
  }
  QKV_CHECK(!usable_.empty(), kValue,
            "batches: none of the {} pairs has at most {} tokens a side; raise max_length", pairs.size(),
            options.max_length);
}

std::vector<std::vector<int32_t>> BatchPlan::epoch(int64_t number) const {
  RandomStream random({.seed = options_.seed, .stream = kShuffle, .step = static_cast<uint32_t>(number)});
  std::vector<int32_t> order = usable_;
  shuffle(order, random);

  if (options_.bucket_batches > 1) {
    const int64_t pool_tokens = options_.batch_tokens * options_.bucket_batches;
    for (size_t begin = 0; begin < order.size();) {
      size_t end = begin;
      for (int64_t tokens = 0; end < order.size() && tokens < pool_tokens; ++end)
        tokens += static_cast<int64_t>(pairs_[order[end]].target.size());
      std::stable_sort(order.begin() + begin, order.begin() + end, [&](int32_t a, int32_t b) {
        return std::pair(pairs_[a].target.size(), pairs_[a].source.size()) <
               std::pair(pairs_[b].target.size(), pairs_[b].source.size());
      });
      begin = end;
    }
  }

  std::vector<std::vector<int32_t>> batches;
  int64_t tokens = options_.batch_tokens;  // "full", so that the first pair opens a batch
  for (int32_t i : order) {
    const int64_t length = static_cast<int64_t>(pairs_[i].target.size());
    if (tokens + length > options_.batch_tokens) {
      batches.emplace_back();
      tokens = 0;
    }
    batches.back().push_back(i);
    tokens += length;
  }
  if (options_.bucket_batches > 1) shuffle(batches, random);
  return batches;
}

TranslationBatch pack_batch(const std::vector<PairIds>& pairs, const std::vector<int32_t>& indices,
                            int32_t start_id) {
  TranslationBatch batch;
  std::vector<int64_t> source_lengths, target_lengths;
  for (int32_t i : indices) {
    const PairIds& pair = pairs[i];
    append(pair.source, batch.source);
    append(pair.target, batch.target_out);
    batch.target_in.push_back(start_id);
    batch.target_in.insert(batch.target_in.end(), pair.target.begin(), pair.target.end() - 1);
    source_lengths.push_back(static_cast<int64_t>(pair.source.size()));
    target_lengths.push_back(static_cast<int64_t>(pair.target.size()));
  }
  batch.source_segments = Segments(source_lengths);
  batch.target_segments = Segments(target_lengths);
  return batch;
}

}  // namespace qkv
