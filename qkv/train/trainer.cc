#include "qkv/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <filesystem>

#include "qkv/base/trace.h"
#include "qkv/io/atomic_file.h"
#include "qkv/io/file.h"
#include "qkv/kernels/table.h"
#include "qkv/tensor/matmul.h"
#include "qkv/train/gradients.h"
#include "qkv/train/metrics.h"

namespace qkv {
namespace {

namespace fs = std::filesystem;

constexpr double kMostNorm = 1e18;                     // its square, and so each gradient's, is within f32
constexpr int64_t kAnyStep = 99'999'999;               // the last that a snapshot's name has room for
constexpr int64_t kMostFailures = 100, kPatience = 3;  // failures in a row: in all; from one checkpoint

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool is_finite(const Tensor& t) {
  return std::isfinite(kernels::table().optimizer.sum_squares(t.numel(), t.data<float>()));
}

// Tokens and operations per second over the last steps, training time only.
class Speed {
 public:
  void add(double seconds, int64_t tokens, int64_t flops) {
    window_.push_back({seconds, static_cast<double>(tokens), static_cast<double>(flops)});
    seconds_ += seconds;
    flops_ += static_cast<double>(flops);
    if (window_.size() > 50) window_.pop_front();
  }
  double tokens() const { return sum(1) / std::max(1e-9, sum(0)); }
  double flops() const { return sum(2) / std::max(1e-9, sum(0)); }
  double flops_of_all_steps() const { return flops_ / std::max(1e-9, seconds_); }
  double seconds_per_step() const {
    return sum(0) / static_cast<double>(std::max<size_t>(1, window_.size()));
  }

 private:
  double sum(int column) const {
    double total = 0;
    for (const auto& row : window_) total += row[column];
    return total;
  }
  std::deque<std::array<double, 3>> window_;
  double seconds_ = 0, flops_ = 0;
};

class Loop {
 public:
  Loop(Trainee& trainee, const TrainOptions& options, TrainObserver& observer)
      : trainee_(trainee),
        options_(options),
        observer_(observer),
        optimizer_(make_optimizer(options.optimizer, trainee.parameters())),
        checkpoints_(options.run_dir + "/checkpoints"),
        snapshots_(options.run_dir + "/weights") {
    if (options.ema_decay != 0) ema_.emplace(trainee.parameters(), options.ema_decay);
  }

  TrainResult run() {
    start();
    while (!finished()) {
      if (options_.stop != nullptr && options_.stop->load()) {
        save();
        return {.state = state_, .stopped = true, .chosen = ""};
      }
      step();
      if (state_.step % options_.validate_every == 0) validate();
      // While nothing but failures follow, the checkpoints there are worth more than what would replace them.
      if (state_.step % options_.save_every == 0 && failures_in_a_row_ == 0) save();
    }
    return finish();
  }

 private:
  WeightEma* ema() { return ema_ ? &*ema_ : nullptr; }
  void say(const std::string& text) { observer_.on_message(text); }

  void start() {
    options_.check();
    if (options_.resume) {
      state_ = load_checkpoint(
          checkpoints_, *optimizer_, [&](const std::string& text) { say(text); }, 0, ema());
      say(fmt::format("resumed at step {} (epoch {})", state_.step, state_.epoch + 1));
    } else {
      QKV_CHECK(!has_checkpoint(checkpoints_), kIo,
                "train: {} already holds a run; go on with --resume, or choose another --out",
                options_.run_dir);
      for (const std::string& left : snapshots(kAnyStep)) fs::remove(left);  // by a run without a checkpoint
    }
    io::make_directories(checkpoints_);
    io::make_directories(snapshots_);
    metrics_.open(options_.run_dir + "/metrics.jsonl", state_.step);
    const std::string vocabulary = trainee_.vocabulary_fingerprint();
    QKV_CHECK(!options_.resume || state_.vocabulary.empty() || state_.vocabulary == vocabulary, kFormat,
              "train: the tokenizer is not the one that {} began with, whose pieces its weights stand for; "
              "best/ and last/ hold copies of that one",
              options_.run_dir);
    state_.vocabulary = vocabulary;
    const std::string data = trainee_.fingerprint();
    if (options_.resume && data != state_.data) {
      if (state_.batch > 0) ++state_.epoch;
      state_.batch = 0;
      say(
          fmt::format("the training data, or how it is cut into batches, has changed: going on with epoch {} "
                      "from its start",
                      state_.epoch + 1));
    }
    state_.data = data;
    const std::string best_by = options_.choose_by_score ? "score" : "loss";
    if (options_.resume && best_by != state_.best_by) {
      state_.best_step = state_.bad_validations = 0;
      say(fmt::format("the best is now chosen by {}: what was best before no longer counts", best_by));
    }
    state_.best_by = best_by;
    batches_ = trainee_.begin_epoch(state_.epoch);
    QKV_CHECK(state_.batch < batches_, kFormat, "train: the checkpoint is at batch {} of an epoch of {}",
              state_.batch, batches_);
    if (const int64_t total = steps_total(); total > 0 && total < 2 * options_.schedule.warmup_steps)
      say(
          fmt::format("only {} steps, and the learning rate rises for {} (warmup): expect little. A small "
                      "text wants a shorter "
                      "warmup, smaller batches and more epochs",
                      total, options_.schedule.warmup_steps));
    observer_.on_start(state_);
    started_ = now();
    if (options_.resume && finished())
      say(fmt::format(
          "nothing is left to do: max_steps, max_epochs, max_minutes or early_stop end this run at step {}",
          state_.step));
    if (options_.non_finite == NonFinitePolicy::kRollBack && !options_.resume)
      save();  // something to go back to
  }

  bool finished() const {
    return (options_.max_steps > 0 && state_.step >= options_.max_steps) ||
           (options_.max_epochs > 0 && state_.epoch >= options_.max_epochs) ||
           (options_.max_minutes > 0 && state_.seconds + (now() - started_) >= 60 * options_.max_minutes) ||
           (options_.early_stop > 0 && state_.bad_validations >= options_.early_stop);
  }

  // One update from the next `accumulate` batches. The last update of an epoch may have fewer.
  void step() {
    const trace::Span span("training_step");
    span.note([&] { return fmt::format("step {}", state_.step + 1); });
    const double begin = now();
    const int64_t flops_before = flop_count();
    const int64_t count = std::min(options_.accumulate, batches_ - state_.batch);
    const LossSums sums = accumulate_gradients(trainee_, state_.batch, count, options_, state_.micro_step);
    state_.batch += count;
    state_.target_tokens += sums.n;
    ++state_.step;
    const double norm = optimizer_->grad_norm(), rate = options_.schedule.rate(state_.step);
    if (norm < kMostNorm && std::isfinite(sums.loss)) {
      optimizer_->step(rate, norm);
      if (ema_) ema_->step(optimizer_->steps());
      failures_in_a_row_ = 0;
    } else {
      not_finite(norm, sums.loss);
    }
    if (state_.batch >= batches_) {
      ++state_.epoch;
      state_.batch = 0;
      batches_ = trainee_.begin_epoch(state_.epoch);
    }
    speed_.add(now() - begin, sums.n, flop_count() - flops_before);
    report(sums, rate, norm);
  }

  std::string what_is_saved() const {
    return has_checkpoint(checkpoints_) ? "earlier checkpoints are in " + checkpoints_
                                        : "no checkpoint was due before that step";
  }

  void not_finite(double norm, double loss) {
    optimizer_->zero_grad();
    const std::string what = fmt::format("train: step {}: loss {} and gradient norm {} are not both finite",
                                         state_.step, loss, norm);
    if (options_.non_finite == NonFinitePolicy::kStop || ++failures_in_a_row_ > kMostFailures)
      throw_error(ErrorCode::kNotFinite, "{}; {}. Try a lower learning rate, more warm-up or clip_norm", what,
                  what_is_saved());
    if (options_.non_finite == NonFinitePolicy::kSkip) {
      ++state_.skipped_updates;
      say(what + "; update skipped");
      return;
    }
    roll_back(what);
  }

  // Back to the saved weights, but not to the saved place in the data, which would only do the same again.
  void roll_back(const std::string& what) {
    const TrainingState saved = load_checkpoint(
        checkpoints_, *optimizer_, [&](const std::string& text) { say(text); },
        (failures_in_a_row_ - 1) / kPatience, ema());
    state_.skipped_updates = state_.step - optimizer_->steps();
    say(fmt::format("{}; weights rolled back to those of step {}", what, saved.step));
  }

  // Of the whole run, 0 where only the clock ends it.
  int64_t steps_total() const {
    if (options_.max_epochs == 0) return options_.max_steps;
    const int64_t by_epochs =
        (batches_ + options_.accumulate - 1) / options_.accumulate * options_.max_epochs;
    return options_.max_steps > 0 ? std::min(options_.max_steps, by_epochs) : by_epochs;
  }

  void report(const LossSums& sums, double rate, double norm) {
    const double n = static_cast<double>(std::max<int64_t>(1, sums.n));
    StepReport r{.state = state_,
                 .loss = sums.loss / n,
                 .perplexity = std::exp(sums.nll / n),
                 .rate = rate,
                 .grad_norm = norm,
                 .tokens_per_second = speed_.tokens(),
                 .flops_per_second = speed_.flops()};
    r.state.seconds = seconds();
    r.steps_total = steps_total();
    if (r.steps_total > 0) {
      // Training steps at their present speed, and validations at what they have cost so far.
      const double left = static_cast<double>(std::max<int64_t>(0, r.steps_total - state_.step));
      r.seconds_left = left * speed_.seconds_per_step() +
                       left / static_cast<double>(options_.validate_every) * validation_seconds_;
    }
    if (options_.max_minutes > 0) {
      const double by_clock = std::max(0.0, 60 * options_.max_minutes - r.state.seconds);
      r.seconds_left = r.seconds_left < 0 ? by_clock : std::min(r.seconds_left, by_clock);
    }
    observer_.on_step(r);
    if (state_.step % options_.log_every == 0 || state_.step == 1 || finished()) metrics_.step(r);
  }

  double seconds() const { return state_.seconds + (now() - started_); }

  bool is_better(const Validation& v) const {
    return state_.best_step == 0 || beats(v, state_.best, state_.best_loss);
  }
  // BLEU is 0 for long at first: of equal scores the least loss is the best.
  bool beats(const Validation& v, double best, double loss) const {
    return merit(v) > best || (merit(v) == best && v.loss < loss);
  }
  double merit(const Validation& v) const {
    return options_.choose_by_score && v.has_score() ? v.score : -v.loss;
  }

  std::string snapshot_path(int64_t step) const {
    return fmt::format("{}/step-{:08d}.safetensors", snapshots_, step);
  }

  void validate() {
    const trace::Span span("validation");
    const double begin = now();
    last_ = trainee_.validate();
    has_validated_ = true;
    if (state_.validated_step == state_.step) return;  // a finished run, resumed: counted already
    state_.validated_step = state_.step;
    const bool best = std::isfinite(last_.loss) && is_better(last_);
    if (best) {
      state_.best = merit(last_);
      state_.best_loss = last_.loss;
      state_.best_step = state_.step;
      state_.bad_validations = 0;
      save_model("best");
    } else {
      ++state_.bad_validations;
    }
    if (options_.average > 0) {
      save_weights(snapshot_path(state_.step), optimizer_->parameters());
      // One more than is averaged: a run that resumes from the checkpoint before this validation writes it
      // again.
      const std::vector<std::string> all = snapshots(state_.step);
      std::error_code ignored;
      for (size_t i = static_cast<size_t>(options_.average) + 1; i < all.size(); ++i)
        fs::remove(all[i], ignored);
    }
    validation_seconds_ = now() - begin;
    TrainingState shown = state_;
    shown.seconds = seconds();
    metrics_.validation(shown, last_, best, "last");
    observer_.on_validation(shown, last_, best);
  }

  void save_model(const std::string& which) {
    io::StagedFolder stage(options_.run_dir + "/" + which);
    trainee_.save_model(stage.path());
    stage.commit();
  }

  void save() {
    if (saved_step_ == state_.step) return;
    for (const ParameterPtr& p : optimizer_->parameters())
      if (!is_finite(p->value())) return infinite_weights(p->name());
    const trace::Span span("checkpoint");
    saved_step_ = state_.step;
    TrainingState saved = state_;
    saved.seconds = seconds();
    save_checkpoint(checkpoints_, *optimizer_, saved, options_.keep_checkpoints, ema());
  }

  // An update that was finite made weights that are not: they are never saved.
  void infinite_weights(const std::string& name) {
    const std::string what = fmt::format("train: step {} made {} infinite", state_.step, name);
    QKV_CHECK(options_.non_finite == NonFinitePolicy::kRollBack && ++failures_in_a_row_ <= kMostFailures,
              kNotFinite, "{}, so it is not saved; {}. Try a lower learning rate or more warm-up", what,
              what_is_saved());
    roll_back(what);
  }

  // Those to average. The parameters get the values of one of them.
  std::vector<std::string> readable_snapshots() {
    std::vector<std::string> readable;
    for (const std::string& path : snapshots(state_.step)) {
      if (static_cast<int64_t>(readable.size()) >= options_.average) break;
      try {
        load_weights(path, optimizer_->parameters());
        readable.push_back(path);
      } catch (const Error& e) {
        say(fmt::format("left out of the average: {}", e.what()));
      }
    }
    return readable;
  }

  TrainResult finish() {
    if (!has_validated_ || state_.validated_step != state_.step) {
      if (state_.validated_step != state_.step)
        saved_step_ = -1;  // what this validation finds belongs into the checkpoint
      validate();
    }
    save();
    save_model("last");
    TrainResult result{.state = state_,
                       .last = last_,
                       .chosen = state_.best_step == state_.step || state_.best_step == 0 ? "last" : "best"};
    result.state.seconds = seconds();
    result.flops_per_second = speed_.flops_of_all_steps();
    double best = state_.best_step > 0 ? state_.best : merit(last_);
    result.chosen_loss = state_.best_step > 0 ? state_.best_loss : last_.loss;
    // The parameters hold another set of weights now: it is saved, and chosen where it is the best so far.
    const auto consider = [&](const char* which) {
      const Validation v = trainee_.validate();
      metrics_.validation(state_, v, false, which);
      save_model(which);
      if (beats(v, best, result.chosen_loss)) {
        best = merit(v);
        result.chosen = which;
        result.chosen_loss = v.loss;
      }
      return v;
    };
    if (const std::vector<std::string> paths = readable_snapshots(); paths.size() > 1) {
      load_average(paths, optimizer_->parameters());
      result.average = consider("average");
    }
    if (ema_) {
      ema_->put_into_parameters();
      result.ema = consider("ema");
    }
    const bool by_score = options_.choose_by_score && last_.has_score();
    result.chosen_by = by_score ? "score" : "loss";
    result.chosen_value = by_score ? best : -best;
    metrics_.summary(options_.run_dir + "/summary.json", result);
    return result;
  }
  // Weights set aside by validations up to a step, newest first.
  std::vector<std::string> snapshots(int64_t last_step) const {
    std::vector<std::string> paths;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(snapshots_, ignored))
      if (const std::string name = entry.path().filename().string();
          name.starts_with("step-") && name.ends_with(".safetensors") &&
          entry.path().string() <= snapshot_path(last_step))
        paths.push_back(entry.path().string());
    std::sort(paths.rbegin(), paths.rend());
    return paths;
  }

  Trainee& trainee_;
  const TrainOptions& options_;
  TrainObserver& observer_;
  std::unique_ptr<Optimizer> optimizer_;
  std::optional<WeightEma> ema_;
  std::string checkpoints_, snapshots_;
  TrainingState state_;
  Validation last_;
  bool has_validated_ = false;  // last_ is set
  int64_t saved_step_ = -1;
  int64_t failures_in_a_row_ = 0;
  int64_t batches_ = 0;
  Metrics metrics_;
  Speed speed_;
  double started_ = 0, validation_seconds_ = 0;
};

}  // namespace

NonFinitePolicy non_finite_policy_from_name(std::string_view name) {
  if (name == "stop") return NonFinitePolicy::kStop;
  if (name == "skip") return NonFinitePolicy::kSkip;
  if (name == "rollback") return NonFinitePolicy::kRollBack;
  throw_error(ErrorCode::kValue, "non_finite: '{}' is not one of stop, skip, rollback", name);
}

void TrainOptions::check() const {
  QKV_CHECK(max_steps >= 0 && max_epochs >= 0 && max_minutes >= 0, kValue,
            "train: max_steps ({}), max_epochs ({}) and max_minutes ({}) must not be negative", max_steps,
            max_epochs, max_minutes);
  QKV_CHECK(max_steps > 0 || max_epochs > 0 || max_minutes > 0, kValue,
            "train: nothing says when to end; set max_steps, max_epochs or max_minutes");
  QKV_CHECK(
      accumulate > 0 && validate_every > 0 && save_every > 0 && log_every > 0, kValue,
      "train: accumulate ({}), validate_every ({}), save_every ({}) and log_every ({}) need to be positive",
      accumulate, validate_every, save_every, log_every);
  QKV_CHECK(keep_checkpoints >= 1, kValue, "train: keep_checkpoints is {}, needs to be at least 1",
            keep_checkpoints);
  QKV_CHECK(average >= 0 && early_stop >= 0, kValue,
            "train: average ({}) and early_stop ({}) must not be negative", average, early_stop);
  schedule.check();
  (void)WeightEma({}, ema_decay);  // refuses now what it would refuse later
}

TrainResult train(Trainee& trainee, const TrainOptions& options, TrainObserver& observer) {
  return Loop(trainee, options, observer).run();
}

}  // namespace qkv
