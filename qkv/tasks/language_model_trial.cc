#include "qkv/tasks/language_model_trial.h"

#include <algorithm>
#include <cmath>

#include "qkv/autograd/ops/cross_entropy.h"

namespace qkv {
namespace {

constexpr int64_t kTokensAtOnce = 8192;  // of held-out text: bounds the memory of activations

Gpt2Config with_vocab(Gpt2Config config, const LabText& text) {
  config.vocab_size = text.vocab_size();
  return config;
}

const TrialOptions& checked(const TrialOptions& o) {
  QKV_CHECK(o.length >= 1 && o.batch >= 1 && o.steps >= 1, kValue,
            "trial: length ({}), batch ({}) and steps ({}) need to be at least 1", o.length, o.batch,
            o.steps);
  return o;
}

// Windows one after the other: each token is asked for the next.
struct Windows {
  std::vector<int32_t> in, out;
  std::vector<int64_t> lengths;
  void add(const std::vector<int32_t>& window) {
    in.insert(in.end(), window.begin(), window.end() - 1);
    out.insert(out.end(), window.begin() + 1, window.end());
    lengths.push_back(static_cast<int64_t>(window.size()) - 1);
  }
};

}  // namespace

LanguageModelTrial::LanguageModelTrial(Gpt2Config model, const LabText& text, const TrialOptions& options)
    : text_(text),
      options_(checked(options)),
      model_(with_vocab(std::move(model), text), options.seed),
      optimizer_(model_.parameters().all(), {.beta2 = 0.99, .eps = 1e-9, .weight_decay = 0.01},
                 /*clip_norm=*/1),
      schedule_{.kind = ScheduleKind::kCosine,
                .peak = options.peak_rate,
                .floor = options.peak_rate / 20,
                .warmup_steps = std::max<int64_t>(1, options.steps / 10),
                .max_steps = options.steps} {}

double LanguageModelTrial::step() {
  const int64_t number = steps_done();
  Windows batch;
  for (int64_t b = 0; b < options_.batch; ++b)
    batch.add(text_.training(options_.length + 1, options_.seed,
                             static_cast<uint32_t>(number * options_.batch + b)));
  Pass pass = Pass::training(options_.dtype, options_.seed, static_cast<uint32_t>(number));
  const Var hidden = model_(pass, batch.in, Segments(batch.lengths));
  const double scale = 1 / static_cast<double>(batch.out.size());
  const CrossEntropy ce = cross_entropy(hidden, model_.embedding(), nullptr, batch.out, 0, scale);
  backward(ce.loss);
  const double norm = optimizer_.grad_norm(), loss = ce.loss_sum * scale;
  QKV_CHECK(
      std::isfinite(loss) && std::isfinite(norm), kNotFinite,
      "trial: at step {} loss ({}) and gradient norm ({}) are not both finite; try a lower rate than {}",
      number + 1, loss, norm, options_.peak_rate);
  optimizer_.step(schedule_.rate(number + 1), norm);
  return loss;
}

double LanguageModelTrial::held_out_loss(int64_t length, int64_t n_tokens) const {
  const NoGrad off;
  const int64_t n = std::max<int64_t>(1, n_tokens / length), half = length / 2;
  const int64_t at_once = std::max<int64_t>(1, kTokensAtOnce / length);
  double sum = 0;
  int64_t count = 0;
  bool more = true;
  for (int64_t begin = 0; begin < n && more; begin += at_once) {
    Windows windows;
    for (int64_t i = begin; i < std::min(n, begin + at_once) && more; ++i) {
      const std::vector<int32_t> window = text_.held_out(length + 1, static_cast<uint32_t>(i));
      more = !window.empty();
      if (more) windows.add(window);
    }
    if (windows.lengths.empty()) break;
    Pass pass = Pass::running(options_.dtype);
    const Tensor hidden = model_(pass, windows.in, Segments(windows.lengths)).value();
    for (int64_t row = half; row < hidden.size(0); row += length) {
      const int64_t end = row + length - half;
      const CrossEntropy ce = cross_entropy(Var(hidden.rows(row, end)), model_.embedding(), nullptr,
                                            {windows.out.begin() + row, windows.out.begin() + end}, 0, 1);
      sum += ce.nll_sum;
      count += ce.n;
    }
  }
  QKV_CHECK(count > 0, kValue, "trial: {} holds no window of {} tokens that was not trained on",
            text_.about(), length + 1);
  return sum / static_cast<double>(count);
}

}  // namespace qkv
