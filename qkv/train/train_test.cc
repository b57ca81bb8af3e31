#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "qkv/io/file.h"
#include "qkv/io/testing.h"
#include "qkv/train/batches.h"
#include "qkv/train/checkpoint.h"
#include "qkv/train/optimizers/adam.h"

namespace qkv {
namespace {

ParameterPtr weight(double value) {
  return std::make_shared<Parameter>("w", Tensor::full({2, 3}, DType::kF32, value));
}

class Checkpoints : public ::testing::Test {
 protected:
  std::set<std::string> steps() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(dir_)) names.insert(entry.path().filename());
    return names;
  }
  io::testing::TemporaryFolder folder_;
  std::string dir_ = std::string(folder_.path()) + "/checkpoints";
};

TEST_F(Checkpoints, TheNewestAreKeptAndComeBack) {
  const ParameterPtr w = weight(0);
  Adam optimizer({w}, {});
  for (int64_t step = 1; step <= 4; ++step) {
    w->value().fill(static_cast<double>(step));
    save_checkpoint(dir_, optimizer, {.step = step, .epoch = 7}, 2);
  }
  EXPECT_EQ(steps(), (std::set<std::string>{"step-00000003", "step-00000004"}));
  w->value().fill(0);
  const TrainingState state = load_checkpoint(dir_, optimizer, [](const std::string&) {});
  EXPECT_EQ(state.step, 4);
  EXPECT_EQ(state.epoch, 7);
  EXPECT_EQ(w->value().at({0, 0}), 4);
}

// A run that went on from step 2, because step 9 was damaged, must not lose its new step 3 to the old step 9.
TEST_F(Checkpoints, TheOneJustSavedStaysAndLaterLeftOversGo) {
  const ParameterPtr w = weight(1);
  Adam optimizer({w}, {});
  for (int64_t step : {2, 9, 3}) save_checkpoint(dir_, optimizer, {.step = step}, 1);
  EXPECT_EQ(steps(), (std::set<std::string>{"step-00000003"}));
}

TEST_F(Checkpoints, ADamagedOneIsNamedAndPassedOver) {
  const ParameterPtr w = weight(1);
  Adam optimizer({w}, {});
  for (int64_t step : {1, 2}) save_checkpoint(dir_, optimizer, {.step = step}, 2);
  std::filesystem::resize_file(dir_ + "/step-00000002/moments.safetensors", 20);
  std::string said;
  EXPECT_EQ(load_checkpoint(dir_, optimizer, [&](const std::string& text) { said += text; }).step, 1);
  EXPECT_NE(said.find("moments.safetensors"), std::string::npos) << said;
}

TEST_F(Checkpoints, TheAverageIsTheMean) {
  io::make_directories(dir_);
  const ParameterPtr w = weight(0);
  std::vector<std::string> paths;
  for (double value : {1.0, 2.0, 6.0}) {
    w->value().fill(value);
    paths.push_back(dir_ + "/" + std::to_string(paths.size()) + ".safetensors");
    save_weights(paths.back(), {w});
  }
  load_average(paths, {w});
  EXPECT_EQ(w->value().at({1, 1}), 3);
}

TEST(BatchPlan, EachEpochHoldsEveryUsablePairOnceWithinTheTokenLimit) {
  std::vector<PairIds> pairs;
  for (int32_t i = 0; i < 100; ++i)
    pairs.push_back({.source = {5, 1}, .target = std::vector<int32_t>(static_cast<size_t>(1 + i % 9), 1)});
  pairs.push_back({.source = std::vector<int32_t>(50, 2), .target = {1}});  // too long
  pairs.push_back({.source = {}, .target = {1}});                           // nothing to translate
  for (int64_t buckets : {1, 4}) {
    const BatchPlan plan(pairs, {.batch_tokens = 20, .max_length = 10, .bucket_batches = buckets, .seed = 3});
    EXPECT_EQ(plan.n_skipped(), 2);
    std::multiset<int32_t> seen;
    for (const auto& batch : plan.epoch(0)) {
      int64_t tokens = 0;
      for (int32_t i : batch) tokens += static_cast<int64_t>(pairs[i].target.size());
      EXPECT_LE(tokens, 20);
      seen.insert(batch.begin(), batch.end());
    }
    EXPECT_EQ(seen.size(), 100u);
    EXPECT_EQ(std::set<int32_t>(seen.begin(), seen.end()).size(), 100u);
    EXPECT_EQ(plan.epoch(5), plan.epoch(5));
    EXPECT_NE(plan.epoch(5), plan.epoch(6));
  }
}

TEST(BatchPlan, NumbersThatWouldOverflowAreRefused) {
  const std::vector<PairIds> pairs = {{.source = {1}, .target = {1}}};
  EXPECT_ERROR(kValue, "batch_tokens is", BatchPlan(pairs, {.batch_tokens = INT64_MAX}));
  EXPECT_ERROR(kValue, "bucket_batches is", BatchPlan(pairs, {.bucket_batches = int64_t{1} << 40}));
}

}  // namespace
}  // namespace qkv
