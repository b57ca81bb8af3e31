#include "qkv/io/chrome_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace qkv::io {
namespace {

constexpr size_t kAtOnce = 1 << 20;  // bytes

void append_thread(std::string& out, int thread) {
  fmt::format_to(std::back_inserter(out),
                 R"({{"ph":"M","pid":1,"tid":{},"name":"thread_name","args":{{"name":"{}"}}}})", thread,
                 thread == 0 ? "main" : fmt::format("thread {}", thread));
}

void append_span(std::string& out, const trace::Event& e) {
  const int64_t ns = e.end_ns - e.begin_ns;
  // Microseconds with all their digits: rounded, a span could reach beyond the one that holds it.
  fmt::format_to(
      std::back_inserter(out),
      R"({{"ph":"X","pid":1,"tid":{},"name":"{}","cat":"{}","ts":{}.{:03},"dur":{}.{:03},"args":{{)",
      e.thread, trace::title(e), trace::name(e.kind), e.begin_ns / 1000, e.begin_ns % 1000, ns / 1000,
      ns % 1000);
  const char* comma = "";
  if (!e.note.empty()) {
    fmt::format_to(std::back_inserter(out), R"("note":{})", dump_json(e.note));
    comma = ",";
  }
  if (e.flops > 0) {
    fmt::format_to(std::back_inserter(out), R"({}"gflop":{:.6g},"gflop_s":{:.4g})", comma,
                   static_cast<double>(e.flops) / 1e9,
                   static_cast<double>(e.flops) / static_cast<double>(std::max<int64_t>(1, ns)));
    comma = ",";
  }
  if (e.bytes > 0) fmt::format_to(std::back_inserter(out), R"({}"bytes":{})", comma, e.bytes);
  out += "}}";
}

}  // namespace

void write_chrome_trace(AtomicFile& file, const trace::Recording& recording, const Json& about) {
  Json other = about;
  other["spans"] = recording.events.size();
  other["dropped_spans"] = recording.dropped;
  std::string out =
      fmt::format("{{\"displayTimeUnit\":\"ms\",\"otherData\":{},\n\"traceEvents\":[", dump_json(other));
  int threads = 0;
  for (const trace::Event& e : recording.events) threads = std::max(threads, e.thread + 1);
  const char* separator = "\n";
  for (int t = 0; t < threads; ++t) {
    out += std::exchange(separator, ",\n");
    append_thread(out, t);
  }
  for (const trace::Event& e : recording.events) {
    out += std::exchange(separator, ",\n");
    append_span(out, e);
    if (out.size() < kAtOnce) continue;
    file.write(out);
    out.clear();
  }
  out += "\n]}\n";
  file.write(out);
}

}  // namespace qkv::io
