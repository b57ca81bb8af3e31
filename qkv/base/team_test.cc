#include "qkv/base/team.h"

#include <gtest/gtest.h>

#include <vector>

namespace qkv {
namespace {

// Each round everybody writes its own place and, after the meeting, reads all the others'.
TEST(Team, WhatIsWrittenBeforeAMeetingIsSeenAfterIt) {
  const int before = threads();
  set_threads(4);
  std::vector<int64_t> written(4, -1);
  std::atomic<int64_t> wrong = 0;
  in_step(4, [&](const Team& us) noexcept {
    for (int64_t round = 0; round < 1000; ++round) {
      written[static_cast<size_t>(us.thread())] = round;
      us.meet();
      for (int64_t t = 0; t < us.size(); ++t) wrong += written[static_cast<size_t>(t)] != round;
      us.meet();
    }
  });
  set_threads(before);
  EXPECT_EQ(wrong, 0);
}

TEST(Team, SharesCoverEverythingOnceInMultiplesOfTheGrain) {
  const int before = threads();
  set_threads(3);
  std::vector<int> seen(100, 0);
  in_step(3, [&](const Team& us) noexcept {
    us.share(100, 16, [&](int64_t begin, int64_t end) {
      EXPECT_EQ(begin % 16, 0);
      for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
    });
  });
  set_threads(before);
  EXPECT_EQ(seen, std::vector<int>(100, 1));
}

// A meeting would otherwise wait for the threads of the region around it.
TEST(Team, IsOfOneInsideAnotherRegion) {
  const int before = threads();
  set_threads(2);
  std::atomic<int> calls = 0, others = 0;
  parallel_for(2, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      in_step(2, [&](const Team& us) noexcept {
        us.meet();
        ++calls;
        others += us.size() != 1;
      });
  });
  set_threads(before);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(others, 0);
}

}  // namespace
}  // namespace qkv
