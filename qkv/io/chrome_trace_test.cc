#include "qkv/io/chrome_trace.h"

#include <gtest/gtest.h>

#include "qkv/io/file.h"
#include "qkv/io/testing.h"

namespace qkv::io {
namespace {

Json written(const trace::Recording& recording, const testing::TemporaryFolder& folder) {
  AtomicFile file(folder / "trace.json");
  write_chrome_trace(file, recording, {{"isa", "avx2"}});
  EXPECT_FALSE(exists(folder / "trace.json")) << "there before it is whole";
  file.commit();
  return read_json(folder / "trace.json");
}

TEST(ChromeTrace, HasEverySpanWithItsWork) {
  const testing::TemporaryFolder folder;
  trace::Recording recording{.events = {}, .dropped = 3};
  recording.events.push_back({.name = "linear",
                              .note = "a \"quoted\"\nname",
                              .kind = trace::Kind::kBackward,
                              .thread = 0,
                              .begin_ns = 1'000'007,
                              .end_ns = 3'000'008,
                              .flops = 4'000'002'000,
                              .bytes = 123});
  recording.events.push_back(
      {.name = "matmul", .kind = trace::Kind::kShare, .thread = 1, .begin_ns = 0, .end_ns = 5});
  const Json json = written(recording, folder);

  EXPECT_EQ(json["otherData"], (Json{{"isa", "avx2"}, {"spans", 2}, {"dropped_spans", 3}}));
  const Json& events = json["traceEvents"];
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0]["args"]["name"], "main");
  EXPECT_EQ(events[1]["args"]["name"], "thread 1");
  EXPECT_EQ(events[2], Json::parse(R"({"ph":"X","pid":1,"tid":0,"name":"linear backward","cat":"backward",
    "ts":1000.007,"dur":2000.001,
    "args":{"note":"a \"quoted\"\nname","gflop":4.0,"gflop_s":2000.0,"bytes":123}})"));
  EXPECT_EQ(events[3], Json::parse(R"({"ph":"X","pid":1,"tid":1,"name":"matmul","cat":"share",
    "ts":0.0,"dur":0.005,"args":{}})"));
}

TEST(ChromeTrace, OfNothingIsATraceToo) {
  const testing::TemporaryFolder folder;
  EXPECT_TRUE(written({}, folder)["traceEvents"].empty());
}

// Written in parts of a MiB.
TEST(ChromeTrace, ManySpansAllArrive) {
  const testing::TemporaryFolder folder;
  trace::Recording recording;
  for (int64_t i = 0; i < 20'000; ++i)
    recording.events.push_back({.name = "add", .begin_ns = i, .end_ns = i + 1});
  const Json json = written(recording, folder);
  ASSERT_EQ(json["traceEvents"].size(), 20'001u);
  for (int64_t i = 0; i < 20'000; ++i)
    ASSERT_EQ(json["traceEvents"][static_cast<size_t>(i + 1)]["ts"], static_cast<double>(i) / 1000);
}

}  // namespace
}  // namespace qkv::io
