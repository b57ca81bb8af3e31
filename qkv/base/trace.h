#pragma once
// Where the time goes: spans on the timelines of threads, one inside another, each with the work done within.
//
//   const trace::Span span("layer_norm");                      // from here to the end of the scope
//   span.note([&] { return fmt::format("{}x{}", rows, d); });  // asked only while recording
//
// While nobody records, a span costs a load and a branch that is never taken (measured: docs/performance.md).
// io/ chrome_trace.h writes what was recorded for a viewer.
//
// A span's work is that of the spans within it on the same thread, and what is counted while it is innermost:
// operations of products by count_flops() (tensor/matmul.h), bytes by count_bytes(), each operand once a
// call. Threads that share a parallel_for (base/parallel.h) record their shares under the name of the span
// that the caller is in.

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qkv::trace {

enum class Kind : uint8_t {
  kPhase,     // a step, a layer: what holds other spans together
  kOp,        // an operation of the tape (autograd/var.h), forward
  kBackward,  // its backward
  kKernel,    // a call of tensor/: a product, packing
  kShare,     // what one thread did of its caller's span
};
std::string_view name(Kind kind);  // "phase", "op", "backward", "kernel", "share"

struct Event {
  const char* name = "";  // of static storage
  std::string note;       // sizes, or whose
  Kind kind = Kind::kPhase;
  int thread = 0;                    // 0: the first that recorded
  int64_t begin_ns = 0, end_ns = 0;  // from the start of recording
  int64_t flops = 0, bytes = 0;
};

/// "linear", "linear backward".
std::string title(const Event& event);

struct Recording {
  std::vector<Event> events;  // by thread, then beginning; one that holds others before them
  int64_t dropped = 0;        // spans beyond the most that were to be kept
};

constexpr int64_t kMostSpans = 1 << 18;  // 21 MB while recording, about 50 MB as JSON

/// Begins to record at most `most` spans: those that begin first. One recording at a time: Error kInternal.
void start(int64_t most = kMostSpans);
/// Ends it. Spans that are still open are not in it. No other thread may be in a span.
Recording stop();

/// Of all spans of one title: their time and operations without those of the spans within them.
struct Total {
  std::string title;
  int64_t calls = 0, ns = 0, flops = 0;
};
/// Of the first thread, shares left out, most time first: their times add up to that of the outermost spans.
std::vector<Total> totals(const Recording& recording);

namespace detail {
inline std::atomic<bool> recording = false;
struct Line;  // a thread's
Line* open(const char* name, Kind kind);
void close(Line* line);
void note(Line* line, std::string text);
}  // namespace detail

inline bool on() { return detail::recording.load(std::memory_order_relaxed); }

class Span {
 public:
  /// name: of static storage; null records nothing.
  explicit Span(const char* name, Kind kind = Kind::kPhase) {
    if (on()) [[unlikely]]
      line_ = detail::open(name, kind);
  }
  ~Span() {
    if (line_ != nullptr) [[unlikely]]
      detail::close(line_);
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

  /// text(): sizes, dtype, a parameter's name. Only while this is the innermost span of its thread.
  template <class Text>
  void note(Text&& text) const {
    if (line_ != nullptr) [[unlikely]]
      detail::note(line_, std::forward<Text>(text)());
  }

 private:
  detail::Line* line_ = nullptr;
};

/// To the innermost span of this thread, if there is one.
void count_flops(int64_t n);
void count_bytes(int64_t n);
/// The same where that span, an operation, has counted none: n is what it moves if it does nothing special.
void count_bytes_by_default(int64_t n);

/// The name of the innermost span of this thread, null where there is none or nobody records; and of the
/// innermost if it is an operation.
const char* innermost();
const char* innermost_op();

}  // namespace qkv::trace
