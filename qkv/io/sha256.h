#pragma once
// SHA-256 (FIPS 180-4), for manifests and for "is this the same file". Small enough to be our own: OpenSSL
// would be a heavy dependency for one function.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace qkv::io {

/// The running hash: update() any number of times, then hex() once.
class Sha256 {
 public:
  void update(std::span<const std::byte> bytes);
  void update(std::string_view text) { update(std::as_bytes(std::span(text))); }
  /// The digest as 64 lower-case hex digits; the object is spent.
  std::string hex();

 private:
  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> block_{};
  uint64_t total_ = 0;  // bytes seen; the first total_ % 64 of block_ wait for the rest
};

/// SHA-256 of bytes, as 64 lower-case hex digits.
std::string sha256_hex(std::span<const std::byte> bytes);
std::string sha256_hex(std::string_view text);

/// SHA-256 of a file's contents, read in pieces (no limit on its size, 1 MiB of memory).
/// Error kIo naming the file.
std::string sha256_of_file(const std::string& path);

}  // namespace qkv::io
