#pragma once
// For tests of searches: a model whose every distribution is a pure function of the sentence and the tokens
// so far, so that a search that mixes up rows, parents or sentences gets other numbers than one that does
// not.

#include <cmath>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "qkv/base/philox.h"
#include "qkv/decode/step_model.h"

namespace qkv::decode {

class ToyModel : public StepModel {
 public:
  using Logits = std::function<std::vector<float>(uint64_t seed, std::span<const int32_t> history)>;

  /// A sentence is its seed; its source has 3 + seed % 4 tokens. Logits by default: standard normal times 2.
  ToyModel(int64_t vocab_size, std::vector<uint64_t> seeds, Logits logits = {})
      : vocab_size_(vocab_size), seeds_(std::move(seeds)), logits_(std::move(logits)) {
    if (!logits_)
      logits_ = [vocab_size](uint64_t seed, std::span<const int32_t> history) {
        RandomStream random({.seed = hash(seed, history)});
        std::vector<float> out(static_cast<size_t>(vocab_size));
        for (float& x : out) x = static_cast<float>(2 * random.normal());
        return out;
      };
  }

  int64_t vocab_size() const override { return vocab_size_; }
  int64_t n_sentences() const override { return static_cast<int64_t>(seeds_.size()); }
  int64_t src_len(int64_t sentence) const override {
    return 3 + static_cast<int64_t>(seeds_[static_cast<size_t>(sentence)] % 4);
  }

  void step(std::span<const int32_t> ids, std::span<const int32_t> parents, Tensor& logits) override {
    std::vector<Row> next;
    for (size_t r = 0; r < ids.size(); ++r) {
      const auto parent = static_cast<size_t>(parents[r]);
      Row row = n_steps == 0 ? Row{.seed = seeds_[parent], .history = {}} : rows_.at(parent);
      row.history.push_back(ids[r]);
      next.push_back(std::move(row));
    }
    rows_ = std::move(next);
    logits = Tensor::empty({static_cast<int64_t>(rows_.size()), vocab_size_}, DType::kF32);
    attention_.resize(rows_.size());
    for (size_t r = 0; r < rows_.size(); ++r) {
      const std::vector<float> values = logits_(rows_[r].seed, rows_[r].history);
      std::copy(values.begin(), values.end(), logits.data<float>() + static_cast<int64_t>(r) * vocab_size_);
      attention_[r] = weights(rows_[r].seed, rows_[r].history);
    }
    ++n_steps;
    n_rows += static_cast<int64_t>(rows_.size());
  }

  bool watch_attention() override { return has_attention; }
  std::span<const float> attention(int64_t row) const override {
    return attention_[static_cast<size_t>(row)];
  }

  /// log softmax of the logits after `history` (start token first), in float64.
  std::vector<double> log_probs(uint64_t seed, std::span<const int32_t> history) const {
    const std::vector<float> values = logits_(seed, history);
    double sum = 0;
    for (const float x : values) sum += std::exp(static_cast<double>(x));
    std::vector<double> out;
    for (const float x : values) out.push_back(static_cast<double>(x) - std::log(sum));
    return out;
  }
  /// Attention after `history`.
  static std::vector<float> weights(uint64_t seed, std::span<const int32_t> history) {
    RandomStream random({.seed = hash(seed, history) + 1});
    std::vector<float> out(3 + seed % 4);
    float sum = 0;
    for (float& x : out) sum += x = static_cast<float>(std::exp(2 * random.normal()));
    for (float& x : out) x /= sum;
    return out;
  }

  bool has_attention = true;
  int64_t n_steps = 0;
  int64_t n_rows = 0;  // of all steps

 private:
  struct Row {
    uint64_t seed;
    std::vector<int32_t> history;
  };
  static uint64_t hash(uint64_t seed, std::span<const int32_t> history) {
    uint64_t h = 0x9e3779b97f4a7c15u * (seed + 1);
    for (const int32_t id : history) h = (h ^ static_cast<uint64_t>(id + 1)) * 0x100000001b3u;
    return h;
  }

  int64_t vocab_size_;
  std::vector<uint64_t> seeds_;
  Logits logits_;
  std::vector<Row> rows_;
  std::vector<std::vector<float>> attention_;
};

}  // namespace qkv::decode
