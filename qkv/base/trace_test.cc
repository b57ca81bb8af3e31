#include "qkv/base/trace.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "qkv/base/error.h"
#include "qkv/base/parallel.h"

namespace qkv::trace {
namespace {

const Event& only(const Recording& recording, std::string_view name) {
  const Event* found = nullptr;
  for (const Event& event : recording.events)
    if (event.name == name) {
      EXPECT_EQ(found, nullptr) << name << " stands there twice";
      found = &event;
    }
  EXPECT_NE(found, nullptr) << name << " was not recorded";
  static const Event none;
  return found ? *found : none;
}

TEST(Trace, SpansNestAndTheirWorkAddsUp) {
  start();
  {
    const Span outer("outer");
    outer.note([] { return std::string("7 x 8"); });
    count_flops(1);
    {
      const Span inner("inner", Kind::kOp);
      count_flops(10);
      count_bytes(5);
    }
    const Span second("second", Kind::kKernel);
    count_flops(100);
  }
  const Recording r = stop();
  ASSERT_EQ(r.events.size(), 3u);
  EXPECT_EQ(r.dropped, 0);
  const Event &outer = only(r, "outer"), &inner = only(r, "inner"), &second = only(r, "second");
  EXPECT_EQ(r.events[0].name, outer.name) << "what holds others comes first";
  EXPECT_LE(0, outer.begin_ns);
  EXPECT_LE(outer.begin_ns, inner.begin_ns);
  EXPECT_LE(inner.begin_ns, inner.end_ns);
  EXPECT_LE(inner.end_ns, second.begin_ns);
  EXPECT_LE(second.end_ns, outer.end_ns);
  EXPECT_EQ(outer.flops, 111);
  EXPECT_EQ(outer.bytes, 5);
  EXPECT_EQ(inner.flops, 10);
  EXPECT_EQ(outer.note, "7 x 8");
  EXPECT_EQ(second.kind, Kind::kKernel);
}

TEST(Trace, TotalsAreWithoutWhatLiesWithin) {
  const auto event = [](const char* name, Kind kind, int thread, int64_t begin, int64_t end, int64_t flops) {
    return Event{.name = name,
                 .note = {},
                 .kind = kind,
                 .thread = thread,
                 .begin_ns = begin,
                 .end_ns = end,
                 .flops = flops};
  };
  const Recording r{
      .events = {event("step", Kind::kPhase, 0, 0, 100, 90), event("linear", Kind::kOp, 0, 10, 40, 40),
                 event("matmul", Kind::kKernel, 0, 20, 35, 40), event("matmul", Kind::kShare, 0, 21, 30, 0),
                 event("linear", Kind::kBackward, 0, 40, 90, 50),
                 event("matmul", Kind::kKernel, 0, 50, 80, 50), event("matmul", Kind::kShare, 1, 21, 34, 0)},
      .dropped = 0};
  const std::vector<Total> all = totals(r);
  ASSERT_EQ(all.size(), 4u);
  const auto is = [](const Total& t, std::string_view title, int64_t calls, int64_t ns, int64_t flops) {
    return t.title == title && t.calls == calls && t.ns == ns && t.flops == flops;
  };
  EXPECT_TRUE(is(all[0], "matmul", 2, 45, 90));
  EXPECT_TRUE(is(all[1], "linear backward", 1, 20, 0));
  EXPECT_TRUE(is(all[2], "step", 1, 20, 0));
  EXPECT_TRUE(is(all[3], "linear", 1, 15, 0));
}

TEST(Trace, RecordsNothingUnlessAsked) {
  bool asked = false;
  {
    const Span span("before");
    span.note([&] { return asked = true, std::string(); });
    count_flops(1);
    EXPECT_EQ(innermost(), nullptr);
    start();  // a span that began earlier is not part of it
  }
  EXPECT_FALSE(asked);
  EXPECT_THROW(start(), Error);
  auto open = std::make_unique<Span>("open at the end");
  EXPECT_TRUE(stop().events.empty());
  start();
  open.reset();
  EXPECT_TRUE(stop().events.empty());
}

TEST(Trace, KeepsTheFirstSpansAndWhatHoldsThem) {
  start(3);
  {
    const Span outer("outer");
    for (int i = 0; i < 5; ++i) {
      const Span inner("inner");
      count_flops(1);
    }
  }
  const Recording r = stop();
  EXPECT_EQ(r.events.size(), 3u);
  EXPECT_EQ(r.dropped, 3);
  EXPECT_EQ(only(r, "outer").flops, 5) << "work within spans that were left out counts";
}

TEST(Trace, OnlyAnOperationWithoutBytesTakesTheDefault) {
  start();
  {
    const Span phase("phase");
    count_bytes_by_default(1000);
    const Span op("op", Kind::kOp);
    EXPECT_STREQ(innermost_op(), "op");
    count_bytes_by_default(7);
    count_bytes_by_default(9);
    const Span kernel("kernel", Kind::kKernel);
    EXPECT_EQ(innermost_op(), nullptr);
  }
  EXPECT_EQ(only(stop(), "phase").bytes, 7);
}

TEST(Trace, ThreadsRecordTheirSharesUnderTheCallersName) {
  const int before = threads();
  set_threads(3);
  std::atomic<int> arrived = 0;
  start();
  {
    const Span span("norm", Kind::kOp);
    parallel_for(3, 1, [&](int64_t, int64_t) {
      for (++arrived; arrived < 3;) std::this_thread::yield();  // all at once
    });
    parallel_for(3, 3, [](int64_t, int64_t) {});  // one piece: no team, no share
  }
  parallel_for(3, 1, [](int64_t, int64_t) {});  // in no span
  const Recording r = stop();
  set_threads(before);
  ASSERT_EQ(r.events.size(), 4u);
  const Event& op = r.events[0];
  std::vector<int> lines;
  for (size_t i = 1; i < 4; ++i) {
    const Event& share = r.events[i];
    EXPECT_STREQ(share.name, "norm");
    EXPECT_EQ(share.kind, Kind::kShare);
    EXPECT_LE(op.begin_ns, share.begin_ns);
    EXPECT_LE(share.end_ns, op.end_ns);
    lines.push_back(share.thread);
  }
  EXPECT_EQ(lines[0], op.thread);
  EXPECT_LT(lines[0], lines[1]);
  EXPECT_LT(lines[1], lines[2]);
}

TEST(Trace, AThreadThatEndsLeavesItsLineToTheNext) {
  const auto line_of_a_new_thread = [] {
    start();
    std::thread([] { const Span span("work"); }).join();
    return only(stop(), "work").thread;
  };
  const int first = line_of_a_new_thread();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(line_of_a_new_thread(), first);
}

}  // namespace
}  // namespace qkv::trace
