#include "qkv/train/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <map>

#include "qkv/io/atomic_file.h"
#include "qkv/io/file.h"
#include "qkv/io/json.h"
#include "qkv/io/testing.h"

namespace qkv {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// One weight that is to meet a number which differs from batch to batch: loss = tokens * (w - goal)^2 / 2,
// seen through noise that depends on the pass as dropout does.
class Toy : public Trainee {
 public:
  const std::vector<ParameterPtr>& parameters() override { return parameters_; }
  int64_t begin_epoch(int64_t epoch) override {
    epoch_ = epoch;
    return 4;
  }
  int64_t target_tokens(int64_t batch) override { return 1 + batch; }
  LossSums accumulate_gradients(int64_t batch, Pass& pass, double scale) override {
    ++calls;
    RandomStream noise(RandomKey(pass.next_key()));
    const double w = parameters_[0]->value().at({0}), n = static_cast<double>(target_tokens(batch));
    const double d = w - static_cast<double>(batch + epoch_ % 2) - 0.01 * noise.uniform();
    const double gradient = exploding(calls) ? kInfinity : scale * n * d;
    const Tensor g = parameters_[0]->grad();
    g.fill(g.at({0}) + gradient);
    return {.loss = n * d * d / 2, .nll = n * d * d / 2, .n = target_tokens(batch)};
  }
  Validation validate() override {
    const double w = parameters_[0]->value().at({0});
    return {.loss = validation_loss ? validation_loss() : (w - 1.5) * (w - 1.5),
            .score_name = has_score ? "toy" : ""};
  }
  void save_model(const std::string& dir) override {
    io::write_file_atomically(dir + "/weight", fmt::format("{:.17g}", weight()));
  }
  std::string fingerprint() override { return data; }
  std::string vocabulary_fingerprint() override { return vocabulary; }
  double weight() const { return parameters_[0]->value().at({0}); }

  std::function<bool(int64_t)> exploding = [](int64_t) {
    return false;
  };  // by the number of the call, from 1
  std::function<double()> validation_loss;
  std::string data = "toy", vocabulary = "words";
  bool has_score = false;  // of 0
  int64_t calls = 0;

 private:
  std::vector<ParameterPtr> parameters_ = {
      std::make_shared<Parameter>("w", Tensor::full({1}, DType::kF32, 5))};
  int64_t epoch_ = 0;
};

class Listener : public TrainObserver {
 public:
  void on_message(const std::string& text) override { said += text + "\n"; }
  void on_step(const StepReport& report) override {
    if (on_each) on_each(report);
  }
  void on_validation(const TrainingState&, const Validation&, bool best) override {
    bests += best ? 'b' : '.';
  }
  std::string said, bests;
  std::function<void(const StepReport&)> on_each;
};

class Trainer : public ::testing::Test {
 protected:
  TrainOptions options(const std::string& name) {
    return {.run_dir = folder_ / name,
            .schedule = {.kind = ScheduleKind::kConstant, .peak = 0.1, .warmup_steps = 0},
            .max_steps = 20,
            .validate_every = 5,
            .save_every = 3,
            .average = 0};
  }
  std::string read(const std::string& path) { return io::read_file(folder_ / path, 1 << 20); }
  io::testing::TemporaryFolder folder_;
};

TEST_F(Trainer, LearnsAndSaysWhatItDid) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  o.average = 3;
  const TrainResult result = train(toy, o, listener);
  EXPECT_LT(result.last.loss, 4);  // from 12.25
  EXPECT_FALSE(result.stopped);
  EXPECT_EQ(result.state.step, 20);
  EXPECT_EQ(result.state.epoch, 5);
  EXPECT_EQ(listener.bests.size(), 4u);
  const io::Json summary = io::read_json(folder_ / "run/summary.json");
  EXPECT_EQ(summary.at("chosen"), result.chosen);
  EXPECT_EQ(summary.at("chosen_loss"), result.chosen_loss);
  EXPECT_TRUE(std::filesystem::exists(folder_ / ("run/" + result.chosen + "/weight")));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "run/average/weight"));
}

TEST_F(Trainer, OfEqualScoresTheLeastLossIsTheBest) {
  Toy toy;
  toy.has_score = true;
  std::vector<double> losses = {4, 3, 3.5, 2, 5};
  toy.validation_loss = [&, n = size_t{0}]() mutable { return losses.at(n++); };
  Listener listener;
  TrainOptions o = options("run");
  o.max_steps = 25;
  const TrainResult result = train(toy, o, listener);
  EXPECT_EQ(listener.bests, "bb.b.");
  EXPECT_EQ(result.chosen_by, "score");
  EXPECT_EQ(result.chosen_loss, 2);
}

TEST_F(Trainer, AccumulationMakesOneStepOfSeveralBatchesWeighedByTokens) {
  // Four batches of 1, 2, 3 and 4 tokens are an epoch: accumulated, the gradient is the mean over all ten
  // tokens.
  Toy toy;
  Listener listener;
  std::vector<double> norms;
  listener.on_each = [&](const StepReport& r) { norms.push_back(r.grad_norm); };
  TrainOptions o = options("run");
  o.accumulate = 4;
  o.max_steps = 1;
  train(toy, o, listener);
  EXPECT_EQ(toy.calls, 4);
  ASSERT_EQ(norms.size(), 1u);
  EXPECT_NEAR(norms[0], 5 - (0 * 1 + 1 * 2 + 2 * 3 + 3 * 4) / 10.0, 0.011);
}

TEST_F(Trainer, AnEpochsLastUpdateTakesWhatIsLeft) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  o.accumulate = 3;
  o.max_steps = 0;
  o.max_epochs = 2;
  EXPECT_EQ(train(toy, o, listener).state.step, 4);
  EXPECT_EQ(toy.calls, 8);
}

TEST_F(Trainer, ARunThatStopsAndResumesEndsInTheSameBits) {
  Toy straight;
  Listener listener;
  train(straight, options("straight"), listener);
  for (int64_t stop_at : {1, 7, 12}) {
    const std::string name = fmt::format("stopped{}", stop_at);
    std::atomic<bool> stop{false};
    TrainOptions o = options(name);
    o.stop = &stop;
    Toy first;
    Listener stopper;
    stopper.on_each = [&](const StepReport& r) { stop = r.state.step == stop_at; };
    EXPECT_TRUE(train(first, o, stopper).stopped);
    Toy second;
    o.stop = nullptr;
    o.resume = true;
    EXPECT_FALSE(train(second, o, listener).stopped);
    EXPECT_EQ(second.weight(), straight.weight());
    EXPECT_EQ(read(name + "/last/weight"), read("straight/last/weight"));
  }
}

TEST_F(Trainer, EveryOptimizerAndTheMovingAverageResumeToTheSameBits) {
  for (const OptimizerKind& kind : optimizers()) {
    const std::string name(kind.name);
    TrainOptions o = options(name);
    o.optimizer.name = name;
    o.ema_decay = 0.9;
    o.save_every = 1000;
    Toy straight;
    Listener listener;
    train(straight, o, listener);
    std::atomic<bool> stop{false};
    o.run_dir += "-stopped";
    o.stop = &stop;
    Toy first, second;
    Listener stopper;
    stopper.on_each = [&](const StepReport& r) { stop = r.state.step == 7; };
    EXPECT_TRUE(train(first, o, stopper).stopped);
    o.stop = nullptr;
    o.resume = true;
    train(second, o, listener);
    for (const char* which : {"/last/weight", "/ema/weight"})
      EXPECT_EQ(read(name + "-stopped" + which), read(name + which)) << name;
    EXPECT_NE(read(name + "/last/weight"), read(name + "/ema/weight"));
  }
}

TEST_F(Trainer, AnotherOptimizerDoesNotTakeUpARun) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  train(toy, o, listener);
  o.resume = true;
  o.max_steps += 5;
  o.optimizer.name = "lion";
  EXPECT_ERROR(kFormat, "keeps the optimizer it began with", train(toy, o, listener));
}

TEST_F(Trainer, AMovingAverageMayBeginLater) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  train(toy, o, listener);
  o.resume = true;
  o.max_steps += 5;
  o.ema_decay = 0.9;
  const TrainResult result = train(toy, o, listener);
  EXPECT_TRUE(result.ema.has_value());
  EXPECT_TRUE(std::filesystem::exists(folder_ / "run/ema/weight"));
}

TEST_F(Trainer, TheMovingAverageIsChosenWhereItIsBest) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  o.ema_decay = 0.5;
  int calls = 0;
  toy.validation_loss = [&] { return ++calls == 5 ? 0.1 : 1.0; };  // four validations, then the average
  const TrainResult result = train(toy, o, listener);
  EXPECT_EQ(result.chosen, "ema");
  EXPECT_EQ(io::read_json(folder_ / "run/summary.json").at("ema").at("loss"), 0.1);
}

TEST_F(Trainer, ResumedOnOtherDataBeginsTheNextEpochAndSaysSo) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  o.max_steps = 6;
  train(toy, o, listener);
  Toy other;
  other.data = "more";
  o.resume = true;
  o.max_steps = 7;
  const TrainResult result = train(other, o, listener);
  EXPECT_NE(listener.said.find("has changed: going on with epoch 3"), std::string::npos) << listener.said;
  EXPECT_EQ(result.state.epoch, 2);
  EXPECT_EQ(result.state.batch, 1);
}

TEST_F(Trainer, AnotherVocabularyIsRefused) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  train(toy, o, listener);
  Toy other;
  other.vocabulary = "other words";
  o.resume = true;
  o.max_steps += 5;
  EXPECT_ERROR(kFormat, "the tokenizer is not the one", train(other, o, listener));
}

TEST_F(Trainer, ADamagedSnapshotIsLeftOutOfTheAverage) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  o.average = 3;
  train(toy, o, listener);
  io::write_file_atomically(o.run_dir + "/weights/step-00000001.safetensors", "damaged");
  o.resume = true;
  o.average = 100;
  EXPECT_NO_THROW(train(toy, o, listener));
  EXPECT_NE(listener.said.find("left out of the average"), std::string::npos);
}

TEST_F(Trainer, ARunInAFolderThatHoldsOneIsRefused) {
  Toy toy;
  Listener listener;
  train(toy, options("run"), listener);
  EXPECT_ERROR(kIo, "already holds a run", train(toy, options("run"), listener));
}

TEST_F(Trainer, AnInfiniteGradientStopsBeforeItTouchesTheWeights) {
  Toy toy;
  Listener listener;
  toy.exploding = [](int64_t call) { return call == 8; };
  const std::string said =
      test::error_of(ErrorCode::kNotFinite, [&] { train(toy, options("run"), listener); });
  EXPECT_NE(said.find("step 8: "), std::string::npos) << said;
  EXPECT_NE(said.find("earlier checkpoints are in "), std::string::npos) << said;
  EXPECT_TRUE(std::isfinite(toy.weight()));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "run/checkpoints/step-00000006"));
}

TEST_F(Trainer, AGradientTooLargeForAdamCountsAsInfinite) {
  Toy toy;
  Listener listener;
  toy.parameters()[0]->value().fill(1e20);
  EXPECT_ERROR(kNotFinite, "no checkpoint was due before that step", train(toy, options("run"), listener));
}

TEST_F(Trainer, SkippedUpdatesAreCountedAndLeftOut) {
  Toy toy, resumed;
  Listener listener;
  TrainOptions o = options("run");
  o.non_finite = NonFinitePolicy::kSkip;
  toy.exploding = resumed.exploding = [](int64_t call) { return call == 4 || call == 5; };
  EXPECT_EQ(train(toy, o, listener).state.skipped_updates, 2);
  EXPECT_NE(listener.said.find("step 5: loss"), std::string::npos);
  EXPECT_TRUE(std::isfinite(toy.weight()));
}

TEST_F(Trainer, SkippingForEverIsAnError) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  o.non_finite = NonFinitePolicy::kSkip;
  o.max_steps = 1000;
  toy.exploding = [](int64_t call) { return call > 5; };
  EXPECT_ERROR(kNotFinite, "step 106: ", train(toy, o, listener));
}

TEST_F(Trainer, RollingBackGoesToTheCheckpointAndOnWithTheData) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  o.non_finite = NonFinitePolicy::kRollBack;
  toy.exploding = [](int64_t call) { return call == 8; };
  const TrainResult result = train(toy, o, listener);
  EXPECT_NE(listener.said.find("rolled back to those of step 6"), std::string::npos) << listener.said;
  EXPECT_EQ(result.state.step, 20);
  EXPECT_EQ(result.state.skipped_updates, 2);  // steps 7 and 8
}

TEST_F(Trainer, RollingBackBeforeTheFirstCheckpointGoesToTheStart) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  o.non_finite = NonFinitePolicy::kRollBack;
  toy.exploding = [](int64_t call) { return call == 2; };
  train(toy, o, listener);
  EXPECT_NE(listener.said.find("rolled back to those of step 0"), std::string::npos) << listener.said;
}

TEST_F(Trainer, ACheckpointSavedTooLateIsTakenAway) {
  // Weights have exploded by step 9, which is saved: nothing after it is finite until an older checkpoint is
  // back.
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  o.non_finite = NonFinitePolicy::kRollBack;
  listener.on_each = [&](const StepReport& r) {
    if (r.state.step == 9) toy.parameters()[0]->value().fill(1e19);
  };
  const TrainResult result = train(toy, o, listener);
  EXPECT_NE(listener.said.find("rolled back to those of step 9"), std::string::npos) << listener.said;
  EXPECT_NE(listener.said.find("rolled back to those of step 6"), std::string::npos) << listener.said;
  EXPECT_TRUE(std::isfinite(result.last.loss));
  EXPECT_LT(std::abs(toy.weight()), 10);
}

TEST_F(Trainer, ManyBadBatchesInARowCostNoCheckpoint) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  o.non_finite = NonFinitePolicy::kRollBack;
  toy.exploding = [](int64_t call) { return call >= 8 && call <= 17; };
  const TrainResult result = train(toy, o, listener);
  EXPECT_EQ(result.state.step, 20);
  EXPECT_NE(listener.said.find("step 10: loss"), std::string::npos) << listener.said;
  EXPECT_NE(listener.said.find("rolled back to those of step 3"), std::string::npos) << listener.said;
}

TEST_F(Trainer, AResumedRunRollsBackAsTheStraightOneDoes) {
  Listener listener;
  TrainOptions o = options("straight");
  o.non_finite = NonFinitePolicy::kRollBack;
  Toy straight;
  straight.exploding = [](int64_t call) { return call == 7; };
  train(straight, o, listener);
  o.run_dir = folder_ / "resumed";
  o.max_steps = 6;
  Toy first;
  train(first, o, listener);
  o.max_steps = 20;
  o.resume = true;
  Toy second;
  second.exploding = [](int64_t call) { return call == 1; };
  train(second, o, listener);
  EXPECT_EQ(second.weight(), straight.weight());
}

TEST_F(Trainer, InfiniteWeightsAreNotSaved) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  listener.on_each = [&](const StepReport& r) {
    if (r.state.step == 6) toy.parameters()[0]->value().fill(kInfinity);
  };
  EXPECT_ERROR(kNotFinite, "step 6 made w infinite", train(toy, o, listener));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "run/checkpoints/step-00000003"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run/checkpoints/step-00000006"));
}

TEST_F(Trainer, InfiniteWeightsAreRolledBackWhereThatIsThePolicy) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  o.non_finite = NonFinitePolicy::kRollBack;
  listener.on_each = [&](const StepReport& r) {
    if (r.state.step == 6) toy.parameters()[0]->value().fill(kInfinity);
  };
  const TrainResult result = train(toy, o, listener);
  EXPECT_NE(listener.said.find("step 6 made w infinite; weights rolled back to those of step 3"),
            std::string::npos)
      << listener.said;
  EXPECT_EQ(result.state.step, 20);
  EXPECT_TRUE(std::isfinite(toy.weight()));
}

TEST_F(Trainer, WeightsOfADeadRunAreNotAveraged) {
  std::filesystem::create_directories(folder_ / "run/weights");
  io::testing::put(folder_ / "run/weights/step-00000004.safetensors", "left by a run that was killed");
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  o.average = 9;
  train(toy, o, listener);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "run/average/weight"));
}

TEST_F(Trainer, AFinishedRunResumedChangesNothing) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  o.max_steps = 18;  // a save but no validation is due at the end
  train(toy, o, listener);
  const std::string metrics = read("run/metrics.jsonl"),
                    state = read("run/checkpoints/step-00000018/state.json");
  o.resume = true;
  Toy again;
  train(again, o, listener);
  EXPECT_EQ(read("run/metrics.jsonl"), metrics);
  const io::Json before = io::parse_json(state, "before"),
                 after = io::read_json(folder_ / "run/checkpoints/step-00000018/state.json");
  EXPECT_EQ(after.at("bad_validations"), before.at("bad_validations"));
  EXPECT_EQ(after.at("best_step"), before.at("best_step"));
}

TEST_F(Trainer, AnotherMetricForTheBestBeginsAnew) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  o.choose_by_score = true;
  train(toy, o, listener);
  o.choose_by_score = false;
  o.resume = true;
  o.max_steps = 30;
  listener.bests.clear();
  train(toy, o, listener);
  EXPECT_EQ(listener.bests[0], 'b');
  EXPECT_NE(listener.said.find("now chosen by loss"), std::string::npos);
}

TEST_F(Trainer, TheStartIsHeardOnceAllIsChecked) {
  struct Starts : Listener {
    void on_start(const TrainingState&) override { ++starts; }
    int starts = 0;
  } listener;
  Toy toy;
  TrainOptions o = options("run");
  o.resume = true;
  EXPECT_ERROR(kIo, "no usable checkpoint", train(toy, o, listener));
  EXPECT_EQ(listener.starts, 0);
  o.resume = false;
  train(toy, o, listener);
  EXPECT_EQ(listener.starts, 1);
}

TEST_F(Trainer, StopsEarlyWhenValidationGetsNoBetter) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  o.early_stop = 2;
  o.max_steps = 1000;
  int validations = 0;
  toy.validation_loss = [&] { return ++validations <= 3 ? 1.0 / validations : 1.0; };
  const TrainResult result = train(toy, o, listener);
  EXPECT_EQ(listener.bests, "bbb..");
  EXPECT_EQ(result.state.step, 25);
  EXPECT_EQ(result.state.best_step, 15);
  EXPECT_EQ(result.chosen, "best");
}

TEST_F(Trainer, WithoutAFiniteValidationTheLastIsChosen) {
  Toy toy;
  Listener listener;
  toy.validation_loss = [] { return std::nan(""); };
  EXPECT_EQ(train(toy, options("run"), listener).chosen, "last");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run/best"));
}

// 11 steps with validations every 5: the last validation is at an odd step, and is averaged with those before
// it.
TEST_F(Trainer, TheAverageTakesTheLastValidationsWhereverTheyAre) {
  Toy toy;
  Listener listener;
  TrainOptions o = options("run");
  o.average = 2;
  o.max_steps = 11;
  std::map<int64_t, double> weights;
  listener.on_each = [&](const StepReport& r) { weights[r.state.step] = toy.weight(); };
  train(toy, o, listener);
  EXPECT_NEAR(std::stod(read("run/average/weight")), (weights[10] + weights[11]) / 2, 1e-6);
}

TEST_F(Trainer, OptionsThatMakeNoSenseAreRefusedAtOnce) {
  Toy toy;
  Listener listener;
  TrainOptions endless = options("a");
  endless.max_steps = 0;
  EXPECT_ERROR(kValue, "nothing says when to end", train(toy, endless, listener));
  TrainOptions never = options("b");
  never.validate_every = 0;
  EXPECT_ERROR(kValue, "need to be positive", train(toy, never, listener));
  for (const auto& spoil : std::vector<std::function<void(TrainOptions&)>>{
           [](TrainOptions& o) { o.schedule.peak = -1; },
           [](TrainOptions& o) { o.schedule.warmup_steps = -7; }, [](TrainOptions& o) { o.average = -2; },
           [](TrainOptions& o) { o.max_steps = -5; },
           [](TrainOptions& o) { o.optimizer.options["beta1"] = 1; },
           [](TrainOptions& o) { o.optimizer.options["beta2"] = 2; },
           [](TrainOptions& o) { o.optimizer.options["eps"] = 0; },
           [](TrainOptions& o) { o.optimizer.clip_norm = -5; },
           [](TrainOptions& o) { o.optimizer.options["weight_decay"] = -3; }}) {
    TrainOptions o = options("c");
    spoil(o);
    EXPECT_THROW(train(toy, o, listener), Error);
  }
  EXPECT_EQ(toy.calls, 0);
}

}  // namespace
}  // namespace qkv
