#pragma once
// The one error type of qkv. See error.cc for the codes' names; apps map codes to exit statuses.

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace qkv {

enum class ErrorCode {
  kShape,        // ranks or named sizes disagree
  kDtype,        // an element type that the operation does not take
  kValue,        // an argument outside its range: whoever called has to call otherwise
  kUnsupported,  // understood, but not something qkv can do
  kFormat,       // a file's contents break its format, or do not fit what they are for
  kIo,           // the file system refused, or is not as it has to be: missing file, full disk, folder taken
  kNotFinite,    // numbers on the way became NaN or infinite
  kCancelled,    // stopped on request
  kInternal,     // a bug in qkv
};

/// "shape", "dtype", ...
const char* name(ErrorCode code);

/// What every failure of qkv throws. The text names the operation, what it needed, what it got and, where
/// there is one, the way out: "safetensors: m.safetensors: header length 99 exceeds the file (16 bytes)".
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& text) : std::runtime_error(text), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

/// throw_error(ErrorCode::kValue, "linear: d_out is {}, needs to be positive", d_out);
template <class... Args>
[[noreturn]] void throw_error(ErrorCode code, fmt::format_string<Args...> text, Args&&... args) {
  throw Error(code, fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace qkv

// Checks on arguments, made once where they enter:
//   QKV_CHECK(k.size(0) == v.size(0), kShape, "attention: k has {} rows, v has {}", ...);
#define QKV_CHECK(condition, code, ...)                                        \
  do {                                                                         \
    if (!(condition)) ::qkv::throw_error(::qkv::ErrorCode::code, __VA_ARGS__); \
  } while (0)

// Our own invariants, which no input can reach. Free in release builds.
#ifdef QKV_DEBUG_CHECKS
#define QKV_DCHECK(condition)                                                                        \
  do {                                                                                               \
    if (!(condition))                                                                                \
      ::qkv::throw_error(::qkv::ErrorCode::kInternal, "{}:{}: {} does not hold", __FILE__, __LINE__, \
                         #condition);                                                                \
  } while (0)
#else
#define QKV_DCHECK(condition) \
  do {                        \
  } while (0)
#endif
