#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

namespace qkv::cli {

/// --trace FILE.
void add_trace_option(CLI::App& command, std::string& path);

/// body(), recorded (base/trace.h) and written to `path` as a trace (io/chrome_trace.h) where that is not
/// empty, also when the body throws after its first span. The file appears whole, at the end; that there is
/// room for it to is seen at the start. Error kIo.
void traced(const std::string& path, const std::function<void()>& body);

}  // namespace qkv::cli
