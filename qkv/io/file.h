#pragma once
// Reading files: whole, gzip-compressed or mapped. Every failure is Error kIo (the operating system refused)
// or kFormat (too large, broken gzip), and names the path, the reason and what to do.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace qkv::io {

/// The whole file as bytes. A pipe (`<(zcat x)`) may stand for a file; a folder may not.
/// Throws Error: kIo (missing, a folder, no permission, read error), kFormat (more than max_bytes, seen
/// before that much memory is used).
std::string read_file(const std::string& path, int64_t max_bytes);

/// Calls `use` with the file's bytes piece by piece, in order: any size, 1 MiB of memory. Error kIo.
void read_in_pieces(const std::string& path, const std::function<void(std::span<const std::byte>)>& use);

/// As read_file; where the contents begin with gzip's magic (1f 8b) they are unpacked, whatever the file is
/// called. max_bytes bounds what comes out, so a bomb costs no more than an honest file. Several gzip members
/// in a row give one text, as gunzip does.
/// Throws also Error kFormat: a truncated or damaged gzip stream, or bytes that are not gzip after its end.
std::string read_maybe_gz(const std::string& path, int64_t max_bytes);

/// Unpacks gzip `packed` (all members) to at most max_bytes; `where` names it in errors.
std::string gunzip(std::string_view packed, int64_t max_bytes, std::string_view where);

/// The bytes of a file, of a pipe or of standard input ("-"), in order, unpacked as by read_maybe_gz: any
/// size, 128 KiB of memory. Errors as for read_maybe_gz.
class ByteStream {
 public:
  explicit ByteStream(const std::string& path);
  ~ByteStream();

  /// What comes next, valid until the next call; nothing at the end. Waits only where there is nothing yet,
  /// so what is typed at a terminal comes line by line.
  std::string_view next();

  const std::string& name() const;  // the path, or "standard input"
  bool is_terminal() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

bool exists(const std::string& path);        // anything at all by that name
bool is_directory(const std::string& path);  // follows links

/// `path` and every missing folder above it (mkdir -p). Error kIo naming the folder that could not be made.
void make_directories(const std::string& path);

/// Throws Error kIo "doing path: reason; hint" for a system call that set `error_number` (an errno).
[[noreturn]] void throw_io_error(std::string_view doing, const std::string& path, int error_number);

/// Size in bytes of a regular file; Error kIo otherwise.
int64_t file_size(const std::string& path);

/// A file's bytes, mapped read-only: costs address space, not memory, and lives as long as this object.
///
/// An empty file gives an empty span. The mapping stays valid when the file is replaced by rename (as
/// AtomicFile does); a file that someone shortens in place takes its pages away (SIGBUS), so files that are
/// mapped are never rewritten in place by qkv.
/// Throws Error kIo: missing, a folder or device, no permission.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, static_cast<size_t>(size_)}; }
  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace qkv::io
