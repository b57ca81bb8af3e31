#include "apps/cli/settings.h"

#include <gtest/gtest.h>

#include "qkv/io/testing.h"

namespace qkv::cli {
namespace {

using io::testing::put;

class SettingsFile : public ::testing::Test {
 protected:
  SettingsFile() {
    settings_.add("data", "file", file_, "a file");
    settings_.add("training", "steps", steps_, "a number of steps");
    settings_.add("training", "rate", rate_, "a rate");
    settings_.add("training", "shuffle", shuffle_, "yes or no");
    settings_.add("training", "share", share_, "a share", "none");
    settings_.add("training", "fast", fast_, "yes, no or neither", "neither");
    settings_.add("training", "most", most_, "a number or none", "none");
  }
  void load(const std::string& text) {
    put(folder_ / "x.toml", text);
    settings_.load(folder_ / "x.toml");
  }
  io::testing::TemporaryFolder folder_;
  Settings settings_;
  std::string file_ = "none";
  int64_t steps_ = 1;
  double rate_ = 0.5;
  bool shuffle_ = true;
  std::optional<double> share_;
  std::optional<bool> fast_;
  std::optional<int64_t> most_;
};

TEST_F(SettingsFile, GivesWhatItNamesAndLeavesTheRest) {
  load("[training]\nsteps = 1000\nrate = 1e-3\n");
  EXPECT_EQ(steps_, 1000);
  EXPECT_EQ(rate_, 1e-3);
  EXPECT_EQ(file_, "none");
  EXPECT_TRUE(shuffle_);
}

TEST_F(SettingsFile, WhatIsWrittenReadsBackTheSame) {
  load("[data]\nfile = \"a \\\"b\\\" \\\\ c\"\n[training]\nrate = 0.1\nsteps = -7\nshuffle = false\n");
  const std::string text = settings_.to_toml();
  file_ = "", steps_ = 0, rate_ = 0, shuffle_ = true;
  load(text);
  EXPECT_EQ(file_, "a \"b\" \\ c");
  EXPECT_EQ(steps_, -7);
  EXPECT_EQ(rate_, 0.1);
  EXPECT_FALSE(shuffle_);
}

TEST_F(SettingsFile, WhatHasNoValueIsNotWritten) {
  EXPECT_EQ(settings_.to_toml().find("share"), std::string::npos);
  EXPECT_EQ(settings_.to_toml().find("most"), std::string::npos);
  load("[training]\nshare = 2\nfast = false\nmost = 3\n");
  EXPECT_EQ(most_, 3);
  EXPECT_EQ(share_, 2);
  EXPECT_EQ(fast_, false);
  EXPECT_NE(settings_.to_toml().find("share = 2.0\nfast = false\nmost = 3\n"), std::string::npos);
}

TEST_F(SettingsFile, ASwitchMayStandAlone) {
  for (const auto& [line, on] :
       {std::pair{"--fast --steps 5", true}, {"--fast false --steps 5", false}, {"--steps 5 --fast", true}}) {
    Settings settings;
    settings.add("training", "steps", steps_, "a number of steps");
    settings.add("training", "fast", fast_, "yes, no or neither", "neither");
    CLI::App app;
    settings.bind(app);
    app.parse(line, false);
    settings.load("");
    EXPECT_EQ(fast_, on) << line;
    EXPECT_EQ(steps_, 5) << line;
  }
}

TEST_F(SettingsFile, AFlagBeatsTheFile) {
  CLI::App app;
  settings_.bind(app);
  app.parse("--steps 5", false);
  load("[training]\nsteps = 6\nrate = 2\n");
  EXPECT_EQ(steps_, 5);
  EXPECT_EQ(rate_, 2);
  EXPECT_EQ(settings_.changes(), std::vector<std::string>{"steps 6 -> 5"});
  EXPECT_TRUE(settings_.given("rate"));
  EXPECT_FALSE(settings_.given("shuffle"));
}

TEST_F(SettingsFile, BuildsOnItsBase) {
  put(folder_ / "base.toml", "[training]\nsteps = 6\nrate = 2.0\n");
  load("base = \"base.toml\"\n[training]\nrate = 3.0\n");
  EXPECT_EQ(steps_, 6);
  EXPECT_EQ(rate_, 3);
}

TEST_F(SettingsFile, WrongOnesAreNamed) {
  EXPECT_ERROR(kFormat, "did you mean training.steps", load("[training]\nstep = 1\n"));
  EXPECT_ERROR(kFormat, "line 2", load("[training]\nsteps = \n"));
  EXPECT_ERROR(kFormat, "stands outside a section", load("steps = 1\n"));
  EXPECT_ERROR(kFormat, "needs to be", load("[training]\nsteps = [1, 2]\n"));
  EXPECT_ERROR(kValue, "not a whole number", load("[training]\nsteps = 1.5\n"));
  EXPECT_ERROR(kFormat, "base needs to be the path", load("base = 3\n"));
  EXPECT_ERROR(kFormat, "does one name itself", load("base = \"x.toml\"\n"));
  EXPECT_ERROR(kValue, R"('\u001b[2J\nqkv: fine' is not a whole number)",
               load("[training]\nsteps = \"\\u001b[2J\\nqkv: fine\"\n"));
  EXPECT_ERROR(kFormat, R"(called training.\u001b[2J)", load("[training]\n\"\\u001b[2J\" = 1\n"));
  EXPECT_ERROR(kFormat, R"('\u001b[2J' stands outside)", load("\"\\u001b[2J\" = 1\n"));
  std::string deep = "[training.a";
  for (int i = 0; i < 50000; ++i) deep += ".a";
  EXPECT_ERROR(kFormat, "line 1: more than 100 dots", load(deep + "]\n"));
  EXPECT_ERROR(kIo, "missing.toml", load("base = \"missing.toml\"\n"));
}

TEST_F(SettingsFile, OfAnotherTaskIsRefused) {
  Settings mine("lm"), others("mlm");
  int64_t steps = 1;
  for (Settings* s : {&mine, &others}) s->add("training", "steps", steps, "a number of steps");
  put(folder_ / "x.toml", mine.to_toml());
  mine.load(folder_ / "x.toml");
  EXPECT_ERROR(kFormat, "settings of another task (\"lm\"), not of mlm", others.load(folder_ / "x.toml"));
}

}  // namespace
}  // namespace qkv::cli
