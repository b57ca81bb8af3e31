#include "qkv/base/trace.h"

#include <time.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <tuple>

#include "qkv/base/error.h"

namespace qkv::trace {

struct detail::Line {
  struct Open {
    Event event;  // its times are the clock's until stop()
    bool kept = true;
  };
  int thread = 0;
  bool taken = false;  // by a thread that lives
  std::vector<Open> open;
  std::vector<Event> closed;
};

namespace {

using detail::Line;

std::mutex mutex;        // of lines
std::deque<Line> lines;  // never fewer: a line outlives its thread, and the next thread without one takes it
std::atomic<int64_t> room = 0, dropped = 0;
std::atomic<int64_t> started_ns = 0;

int64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

Line* take_line() {
  const std::lock_guard lock(mutex);
  for (Line& line : lines)
    if (!line.taken) {
      line.taken = true;
      return &line;
    }
  lines.push_back({.thread = static_cast<int>(lines.size()), .taken = true, .open = {}, .closed = {}});
  return &lines.back();
}

Line& own_line() {
  struct Lease {
    Line* line = take_line();
    ~Lease() {
      const std::lock_guard lock(mutex);
      line->taken = false;
    }
  };
  static thread_local Lease lease;
  return *lease.line;
}

Event* innermost_event() {
  if (!on()) [[likely]]
    return nullptr;
  Line& line = own_line();
  return line.open.empty() ? nullptr : &line.open.back().event;
}

}  // namespace

std::string_view name(Kind kind) {
  switch (kind) {
    case Kind::kPhase:
      return "phase";
    case Kind::kOp:
      return "op";
    case Kind::kBackward:
      return "backward";
    case Kind::kKernel:
      return "kernel";
    case Kind::kShare:
      return "share";
  }
  return "?";
}

std::string title(const Event& event) {
  return event.kind == Kind::kBackward ? std::string(event.name) + " backward" : event.name;
}

std::vector<Total> totals(const Recording& recording) {
  std::map<std::string, Total> by_title;
  std::vector<std::pair<const Event*, Total*>> around;
  for (const Event& e : recording.events) {
    if (e.thread != 0 || e.kind == Kind::kShare) continue;
    while (!around.empty() && around.back().first->end_ns <= e.begin_ns) around.pop_back();
    Total& mine = by_title[title(e)];
    ++mine.calls;
    mine.ns += e.end_ns - e.begin_ns;
    mine.flops += e.flops;
    if (!around.empty()) {
      around.back().second->ns -= e.end_ns - e.begin_ns;
      around.back().second->flops -= e.flops;
    }
    around.emplace_back(&e, &mine);
  }
  std::vector<Total> all;
  for (auto& [title, total] : by_title) {
    all.push_back(std::move(total));
    all.back().title = title;
  }
  std::stable_sort(all.begin(), all.end(), [](const Total& a, const Total& b) { return a.ns > b.ns; });
  return all;
}

void start(int64_t most) {
  const std::lock_guard lock(mutex);
  QKV_CHECK(!on(), kInternal, "trace: a recording has begun already");
  for (Line& line : lines) line.closed.clear();
  room = most;
  dropped = 0;
  started_ns = now();
  detail::recording = true;
}

Recording stop() {
  const std::lock_guard lock(mutex);
  detail::recording = false;
  Recording all{.events = {}, .dropped = dropped};
  const int64_t start = started_ns;
  for (Line& line : lines) {
    all.events.insert(all.events.end(), std::make_move_iterator(line.closed.begin()),
                      std::make_move_iterator(line.closed.end()));
    line.closed = {};
  }
  for (Event& event : all.events) event.begin_ns -= start, event.end_ns -= start;
  std::sort(all.events.begin(), all.events.end(), [](const Event& a, const Event& b) {
    return std::tuple(a.thread, a.begin_ns, -a.end_ns) < std::tuple(b.thread, b.begin_ns, -b.end_ns);
  });
  return all;
}

Line* detail::open(const char* name, Kind kind) {
  if (name == nullptr) return nullptr;
  Line& line = own_line();
  // Room is taken at the beginning, so that what holds kept spans is kept.
  const bool kept = room.fetch_sub(1, std::memory_order_relaxed) > 0;
  try {
    line.open.push_back({{.name = name, .note = {}, .kind = kind, .thread = line.thread}, kept});
  } catch (const std::bad_alloc&) {  // a thread of a team that waits for this one must not miss its work
    dropped.fetch_add(1, std::memory_order_relaxed);
    return nullptr;
  }
  line.open.back().event.begin_ns = now();
  return &line;
}

void detail::close(Line* line) {
  const int64_t end = now();
  auto [event, kept] = std::move(line->open.back());
  line->open.pop_back();
  event.end_ns = end;
  if (!line->open.empty()) {
    line->open.back().event.flops += event.flops;
    line->open.back().event.bytes += event.bytes;
  }
  if (!on() || event.begin_ns < started_ns) return;  // stop() came first
  if (kept)
    line->closed.push_back(std::move(event));
  else
    dropped.fetch_add(1, std::memory_order_relaxed);
}

void detail::note(Line* line, std::string text) { line->open.back().event.note = std::move(text); }

void count_flops(int64_t n) {
  if (Event* event = innermost_event()) event->flops += n;
}
void count_bytes(int64_t n) {
  if (Event* event = innermost_event()) event->bytes += n;
}
void count_bytes_by_default(int64_t n) {
  Event* event = innermost_event();
  if (event != nullptr && event->bytes == 0 && (event->kind == Kind::kOp || event->kind == Kind::kBackward))
    event->bytes = n;
}

const char* innermost() {
  const Event* event = innermost_event();
  return event != nullptr ? event->name : nullptr;
}
const char* innermost_op() {
  const Event* event = innermost_event();
  return event != nullptr && event->kind == Kind::kOp ? event->name : nullptr;
}

}  // namespace qkv::trace
