#include "qkv/base/error.h"

namespace qkv {

const char* name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kShape:
      return "shape";
    case ErrorCode::kDtype:
      return "dtype";
    case ErrorCode::kValue:
      return "value";
    case ErrorCode::kUnsupported:
      return "unsupported";
    case ErrorCode::kFormat:
      return "format";
    case ErrorCode::kIo:
      return "io";
    case ErrorCode::kNotFinite:
      return "not finite";
    case ErrorCode::kCancelled:
      return "cancelled";
    case ErrorCode::kInternal:
      return "internal";
  }
  return "unknown";
}

}  // namespace qkv
