#pragma once
// Recordings of base/trace.h as a file for a viewer: ui.perfetto.dev, chrome://tracing, speedscope.
//
// Chrome's trace event format, JSON: an object of "traceEvents" (a "thread_name" of each thread, then a
// complete event, "ph": "X", of each span), "displayTimeUnit", and "otherData" with what `about` says and how
// many spans were dropped. Times are microseconds. A span's "cat" is its kind, its "args" the note, the
// operations of products ("gflop") and how many a second ("gflop_s"), and the bytes. About 200 bytes a span.

#include "qkv/base/trace.h"
#include "qkv/io/atomic_file.h"
#include "qkv/io/json.h"

namespace qkv::io {

/// Writes the whole; the caller commits. Errors as of AtomicFile.
void write_chrome_trace(AtomicFile& file, const trace::Recording& recording, const Json& about);

}  // namespace qkv::io
