#include "apps/cli/sweep.h"

#include <gtest/gtest.h>

#include "qkv/io/testing.h"

namespace qkv::cli {
namespace {

class Sweep : public ::testing::Test {
 protected:
  std::vector<SweepPoint> read(const std::string& text) {
    io::testing::put(folder_ / "sweep.toml", text);
    return read_sweep(folder_ / "sweep.toml");
  }
  io::testing::TemporaryFolder folder_;
};

TEST_F(Sweep, IsEveryCombinationOfTheLists) {
  const auto points =
      read("lr = [1e-3, 0.5]\noptimizer = [\"adam\", \"lion\"]\nnesterov = [true]\nwarmup = [10]\n");
  std::vector<std::string> names;
  for (const SweepPoint& p : points) names.push_back(sweep_name(p));
  EXPECT_EQ(names, (std::vector<std::string>{"lr=0.001,nesterov=true,optimizer=adam,warmup=10",
                                             "lr=0.001,nesterov=true,optimizer=lion,warmup=10",
                                             "lr=0.5,nesterov=true,optimizer=adam,warmup=10",
                                             "lr=0.5,nesterov=true,optimizer=lion,warmup=10"}));
}

TEST_F(Sweep, ANameIsOneOfAFolder) {
  EXPECT_EQ(sweep_name({{"positions", "../t5:8 + x"}}), "positions=..%2ft5%3a8%20%2b%20x");
}

TEST_F(Sweep, DifferentValuesHaveDifferentFolders) {
  EXPECT_NE(sweep_name({{"attention", "window:4|global:1"}}),
            sweep_name({{"attention", "window:4+global:1"}}));
  EXPECT_ERROR(kValue, "vary less at once", sweep_name({{"attention", std::string(300, 'a')}}));
}

TEST_F(Sweep, WhatIsNoSweepIsRefused) {
  EXPECT_ERROR(kFormat, "lr: needs to be a list", read("lr = 1\n"));
  EXPECT_ERROR(kFormat, "lr: needs to be a list", read("lr = []\n"));
  EXPECT_ERROR(kFormat, "no text, number", read("lr = [[1]]\n"));
  EXPECT_ERROR(kFormat, "line 2", read("\nlr = \n"));
  EXPECT_ERROR(kValue, "lists \"0.001\" twice", read("lr = [1e-3, 0.001]\n"));
  EXPECT_ERROR(kValue, "no setting to vary", read(""));
  EXPECT_ERROR(kValue, "over 1000 combinations",
               read("a=[1,2,3,4,5,6,7,8,9,10,11]\nb=[1,2,3,4,5,6,7,8,9,10]\nc=[1,2,3,4,5,6,7,8,9,10]\n"));
}

SweepResult result(const char* name, const char* by, double value, double loss, double seconds = 60) {
  return {.name = name,
          .failure = "",
          .by = by,
          .value = value,
          .loss = loss,
          .seconds = seconds,
          .chosen = "best"};
}

TEST_F(Sweep, TheBestComesFirstAndFailuresLast) {
  EXPECT_EQ(sweep_table({{.name = "a", .failure = "broke", .by = "", .chosen = ""},
                         result("b", "loss", 3, 3),
                         result("c", "loss", 2, 2),
                         result("d", "score", 20.5, 4),
                         result("e", "score", 30, 5, 3661)}),
            "run    score    loss     time  weights\n"
            "e    30.0000  5.0000  1:01:01     best\n"
            "d    20.5000  4.0000     1:00     best\n"
            "c          -  2.0000     1:00     best\n"
            "b          -  3.0000     1:00     best\n"
            "a  failed: broke\n");
}

TEST_F(Sweep, OfEqualScoresTheLeastLossComesFirstThenTheShortestTime) {
  const std::string table = sweep_table({result("slow", "score", 0, 4, 90), result("worse", "score", 0, 5),
                                         result("quick", "score", 0, 4, 30)});
  EXPECT_LT(table.find("quick"), table.find("slow"));
  EXPECT_LT(table.find("slow"), table.find("worse"));
}

}  // namespace
}  // namespace qkv::cli
