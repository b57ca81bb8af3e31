#include "apps/cli/traced.h"

#include "apps/cli/command_line.h"
#include "apps/cli/output.h"
#include "apps/cli/table.h"
#include "qkv/base/cpu.h"
#include "qkv/base/error.h"
#include "qkv/base/parallel.h"
#include "qkv/base/trace.h"
#include "qkv/io/chrome_trace.h"

namespace qkv::cli {
namespace {

// Of the main thread; what is not listed is one line.
std::string where_time_went(const trace::Recording& recording) {
  constexpr size_t kMostLines = 15;
  const std::vector<trace::Total> totals = trace::totals(recording);
  int64_t ns = 0;
  for (const trace::Total& t : totals) ns += t.ns;
  Table table({"main thread", "calls", "ms", "share", "GFLOP/s"});
  const auto row = [&](const trace::Total& t) {
    table.add(
        {t.title, std::to_string(t.calls), fmt::format("{:.1f}", static_cast<double>(t.ns) / 1e6),
         fmt::format("{:.1f} %",
                     100 * static_cast<double>(t.ns) / static_cast<double>(std::max<int64_t>(1, ns))),
         t.flops > 0 ? fmt::format("{:.0f}", static_cast<double>(t.flops) / static_cast<double>(t.ns)) : ""});
  };
  trace::Total rest{.title = "the rest"};
  for (size_t i = 0; i < totals.size(); ++i) {
    if (i < kMostLines) {
      row(totals[i]);
      continue;
    }
    rest.calls += totals[i].calls, rest.ns += totals[i].ns, rest.flops += totals[i].flops;
  }
  if (rest.calls > 0) row(rest);
  return table.text();
}

}  // namespace

void add_trace_option(CLI::App& command, std::string& path) {
  add_output_option(
      command, "--trace", path,
      "write a timeline of every operation and product, for ui.perfetto.dev or chrome://tracing "
      "(docs/tracing.md)");
}

void traced(const std::string& path, const std::function<void()>& body) {
  if (path.empty()) return body();
  io::AtomicFile file(path);
  const auto write = [&](const trace::Recording& recording) {
    io::write_chrome_trace(file, recording,
                           {{"command", own_command_line()},
                            {"isa", name(isa())},
                            {"threads", threads()},
                            {"version", QKV_VERSION}});
    file.commit();
    const int64_t dropped = recording.dropped;
    note("trace: {} spans in {}{}\n{}", recording.events.size(), path,
         dropped > 0 ? fmt::format("; the {} that came after are left out", dropped) : "",
         where_time_went(recording));
  };
  trace::start();
  try {
    body();
  } catch (...) {
    try {
      const trace::Recording recording = trace::stop();
      if (!recording.events.empty()) write(recording);  // or it failed before there was anything to do
    } catch (const Error& e) {                          // the first error is the one to hear of
      note("{}\n", e.what());
    }
    throw;
  }
  write(trace::stop());
}

}  // namespace qkv::cli
