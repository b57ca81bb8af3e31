#include "apps/cli/lab_trials.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <vector>

#include "apps/cli/lab.h"
#include "apps/cli/output.h"
#include "qkv/attention/paths/scratch.h"
#include "qkv/base/counted.h"
#include "qkv/tasks/translation_model.h"

namespace qkv::cli {

void TrialFlags::add_to(CLI::App& app) {
  const CLI::Range positive(1, 1 << 20);
  app.add_option("--steps", trial.steps, "of training, for each model")
      ->capture_default_str()
      ->check(positive);
  app.add_option("--length", trial.length, "tokens of a training window")
      ->capture_default_str()
      ->check(positive);
  app.add_option("--batch", trial.batch, "windows of a step")->capture_default_str()->check(positive);
  app.add_option("--lr", trial.peak_rate, "highest learning rate")
      ->capture_default_str()
      ->check(positive_number());
  app.add_option("--d-model", d_model, "width of the model")
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
  app.add_option("--n-layers", n_layers, "layers")->capture_default_str()->check(CLI::Range(1, 48));
  app.add_option(
         "--text", text,
         "train on the bytes of this file; its last tenth is held out (default: a built-in text that has to "
         "be read by position)")
      ->type_name("FILE");
  app.add_option("--dtype", dtype, "f32, bf16, or auto: bf16 where the CPU has a unit for it")
      ->capture_default_str();
  app.add_option("--seed", seed, "of weights and batches")
      ->capture_default_str()
      ->check(CLI::Range(0, 1 << 30));
  app.add_flag("--json", json, "one JSON object a line");
  add_output_option(app, "--svg", svg, "write charts");
}

Gpt2Config TrialFlags::model() const {
  return {.vocab_size = 256,  // the text's own takes its place
          .max_len = trial.length,
          .d_model = d_model,
          .n_layers = n_layers,
          .d_ff = 4 * d_model,
          .activation = Activation::kGelu,
          .dropout = 0};
}

Trials::Trials(std::string command, const TrialFlags& flags, int64_t n_models, int64_t longest)
    : command_(std::move(command)),
      options_(flags.trial),
      n_models_(n_models),
      text_(flags.text.empty() ? repeating_text(flags.trial.length) : text_of_file(flags.text)) {
  QKV_CHECK(!text_->held_out(longest + 1, 0).empty(), kValue,
            "{}: to test on {} tokens is too much for {}; give a longer text or test on less", command_,
            longest, text_->about());
  options_.dtype = compute_dtype_from_name(flags.dtype);
  options_.seed = static_cast<uint64_t>(flags.seed);
}

Trial Trials::run(const Gpt2Config& model, const std::string& name) {
  using Clock = std::chrono::steady_clock;
  paths::Scratch::release();
  Trial out;
  out.trained = std::make_unique<LanguageModelTrial>(model, *text_, options_);
  std::vector<double> losses, seconds;
  if (!bar_) bar_.emplace(command_);
  const double total = static_cast<double>(n_models_ * options_.steps);
  for (int64_t i = 0; i < options_.steps; ++i) {
    if (i == 0) reset_memory_peak();
    const auto start = Clock::now();
    losses.push_back(out.trained->step());
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    if (trained_ == 0 && i == std::min<int64_t>(5, options_.steps - 1))
      note_expected(command_,
                    fmt::format("{}, {} of {} each, on {}", counted(n_models_, "model"),
                                counted(options_.steps, "step"),
                                counted(options_.batch * options_.length, "token"), text_->about()),
                    *std::min_element(seconds.begin(), seconds.end()) * total, "--steps changes");
    bar_->show(static_cast<double>(trained_ * options_.steps + i + 1), total,
               fmt::format("{} ({} of {})  loss {:.3f}", name, trained_ + 1, n_models_, losses.back()));
  }
  out.peak_bytes = memory_use().peak;
  const auto last = static_cast<int64_t>(losses.size()) / 10 + 1;
  out.training_loss = std::accumulate(losses.end() - last, losses.end(), 0.0) / static_cast<double>(last);
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<int64_t>(seconds.size()) / 2,
                   seconds.end());
  out.seconds_per_step = seconds[seconds.size() / 2];
  ++trained_;
  return out;
}

}  // namespace qkv::cli
