#pragma once
// The one reader of binary input: integers, strings and spans, or an Error that names the file and the place.

#include <fmt/core.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "qkv/base/error.h"

namespace qkv::io {

/// Walks through `bytes` (not owned) from front to back. Numbers are little-endian and may lie at any
/// address. Every `what` names the field in errors: "x.bin: at byte 12: n_layers: needs 4 bytes, 2 are left".
/// Lengths are compared with the bytes left before anything is made from them.
/// Throws Error kFormat, from every call that asks for more than there is.
class BoundedReader {
 public:
  static_assert(std::endian::native == std::endian::little);

  BoundedReader(std::span<const std::byte> bytes, std::string where)
      : bytes_(bytes), where_(std::move(where)) {}

  int64_t position() const { return position_; }
  int64_t left() const { return static_cast<int64_t>(bytes_.size()) - position_; }
  bool at_end() const { return left() == 0; }

  uint8_t u8(const char* what) { return number<uint8_t>(what); }
  uint16_t u16(const char* what) { return number<uint16_t>(what); }
  uint32_t u32(const char* what) { return number<uint32_t>(what); }
  uint64_t u64(const char* what) { return number<uint64_t>(what); }
  int32_t i32(const char* what) { return number<int32_t>(what); }
  int64_t i64(const char* what) { return number<int64_t>(what); }
  float f32(const char* what) { return number<float>(what); }
  double f64(const char* what) { return number<double>(what); }

  /// The next `count` bytes, in place. The count is outside data: any u64 is answered, none is trusted.
  std::span<const std::byte> bytes(uint64_t count, const char* what) {
    if (count > static_cast<uint64_t>(left())) fail("{}: needs {} bytes, {} are left", what, count, left());
    const auto out = bytes_.subspan(static_cast<size_t>(position_), static_cast<size_t>(count));
    position_ += static_cast<int64_t>(count);
    return out;
  }

  std::string_view text(uint64_t count, const char* what) {
    const auto span = bytes(count, what);
    return {reinterpret_cast<const char*>(span.data()), span.size()};
  }

  /// A u64 or u32 count of items that take at least `item_bytes` each: refused where the bytes left cannot
  /// hold them, so a vector may be sized by it.
  int64_t count_u64(int64_t item_bytes, const char* what) { return fits(u64(what), item_bytes, what); }
  int64_t count_u32(int64_t item_bytes, const char* what) { return fits(u32(what), item_bytes, what); }

  /// Error unless everything has been read.
  void expect_end() const {
    if (left() != 0) fail("{} bytes follow the end of the contents", left());
  }

  /// Throws Error kFormat "where: at byte N: ...".
  template <class... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) const {
    throw_error(ErrorCode::kFormat, "{}: at byte {}: {}", where_, position_,
                fmt::format(text, std::forward<Args>(args)...));
  }

 private:
  template <class T>
  T number(const char* what) {
    static_assert(std::is_trivially_copyable_v<T>);
    T out;
    std::memcpy(&out, bytes(sizeof(T), what).data(), sizeof(T));
    return out;
  }

  int64_t fits(uint64_t count, int64_t item_bytes, const char* what) const {
    if (count > static_cast<uint64_t>(left() / item_bytes))
      fail("{}: {} items of at least {} bytes do not fit the {} bytes left", what, count, item_bytes, left());
    return static_cast<int64_t>(count);
  }

  std::span<const std::byte> bytes_;
  std::string where_;
  int64_t position_ = 0;
};

}  // namespace qkv::io
