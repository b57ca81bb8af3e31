#include "qkv/io/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"

namespace qkv::io {
namespace {

constexpr int64_t kPathInMessage = 4096;
constexpr int64_t kMostBytes = int64_t{1} << 60;  // "no limit", with room to add to it

// A file descriptor that closes itself. For reading only: nothing is lost when close fails.
class ReadHandle {
 public:
  explicit ReadHandle(const std::string& path) : path_(path) {
    do fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    while (fd_ < 0 && errno == EINTR);
    look();
  }
  // Standard input.
  ReadHandle() : path_("standard input"), fd_(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)) { look(); }
  ~ReadHandle() { ::close(fd_); }
  ReadHandle(const ReadHandle&) = delete;
  ReadHandle& operator=(const ReadHandle&) = delete;

  const std::string& path() const { return path_; }
  int fd() const { return fd_; }
  bool regular() const { return S_ISREG(info_.st_mode); }
  int64_t size() const { return info_.st_size; }

  // Up to `count` bytes; 0 at the end.
  int64_t read(char* out, int64_t count) const {
    for (;;) {
      const ssize_t got = ::read(fd_, out, static_cast<size_t>(count));
      if (got >= 0) return got;
      if (errno != EINTR) throw_io_error("reading", path_, errno);
    }
  }

 private:
  void look() {
    if (fd_ < 0) throw_io_error("reading", path_, errno);
    if (::fstat(fd_, &info_) == 0 && !S_ISDIR(info_.st_mode)) return;
    const int error_number = S_ISDIR(info_.st_mode) ? EISDIR : errno;
    ::close(fd_);
    throw_io_error("reading", path_, error_number);
  }
  std::string path_;
  int fd_ = -1;
  struct stat info_ {};
};

// gzip members in a row, piece by piece.
class Unpacker {
 public:
  explicit Unpacker(std::string_view name) : name_(escape(name, kPathInMessage)) {
    constexpr int kGzipOnly = 16 + MAX_WBITS;
    QKV_CHECK(inflateInit2(&stream_, kGzipOnly) == Z_OK, kInternal, "gunzip: zlib does not start");
  }
  ~Unpacker() { inflateEnd(&stream_); }
  Unpacker(const Unpacker&) = delete;
  Unpacker& operator=(const Unpacker&) = delete;

  // Takes from the front of `packed`, writes to `out`. Returns the bytes written; 0: `packed` is used up.
  int64_t unpack(std::string_view& packed, char* out, int64_t room) {
    constexpr int64_t kMostAtOnce = 1 << 30;  // zlib counts in 32 bits
    for (;;) {
      if (ended_ && !packed.empty()) {
        QKV_CHECK(packed.front() == '\x1f', kFormat,
                  "{}: bytes that are not gzip follow the gzip data, at byte {}", name_, consumed_);
        inflateReset(&stream_);
        ended_ = false;
      }
      if (ended_) return 0;
      const auto in = std::min(static_cast<int64_t>(packed.size()), kMostAtOnce);
      room = std::min(room, kMostAtOnce);
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
      stream_.avail_in = static_cast<uInt>(in);
      stream_.next_out = reinterpret_cast<Bytef*>(out);
      stream_.avail_out = static_cast<uInt>(room);
      const int status = inflate(&stream_, Z_NO_FLUSH);
      const int64_t used = in - stream_.avail_in, got = room - stream_.avail_out;
      consumed_ += used;
      packed.remove_prefix(static_cast<size_t>(used));
      ended_ = status == Z_STREAM_END;
      // Z_BUF_ERROR: nothing could be done, for want of input.
      QKV_CHECK(ended_ || status == Z_OK || status == Z_BUF_ERROR, kFormat,
                "{}: the gzip data are damaged near byte {} ({}); fetch the file again", name_, consumed_,
                stream_.msg != nullptr ? stream_.msg : "no dictionary");
      if (got > 0 || (!ended_ && packed.empty())) return got;
    }
  }

  // To be called where there is no more to unpack.
  void finish() const {
    QKV_CHECK(ended_, kFormat,
              "{}: the gzip data end too early, after {} bytes; the file was cut short: fetch it again",
              name_, consumed_);
  }

 private:
  std::string name_;
  z_stream stream_{};
  int64_t consumed_ = 0;
  bool ended_ = false;  // at the end of a member
};

[[noreturn]] void throw_too_large(std::string_view where, int64_t max_bytes) {
  throw_error(ErrorCode::kFormat, "{}: needs to be at most {} bytes, is larger; is it the right file?",
              escape(where, kPathInMessage), max_bytes);
}

}  // namespace

void throw_io_error(std::string_view doing, const std::string& path, int error_number) {
  std::string hint;
  switch (error_number) {
    case ENOENT: {
      const auto folder = std::filesystem::path(path).parent_path();
      hint = !folder.empty() && !is_directory(folder.string())
                 ? fmt::format("; the folder {} does not exist", escape(folder.string(), kPathInMessage))
                 : "; check the name";
      break;
    }
    case EISDIR:
      hint = "; a file is needed here";
      break;
    case ENOTDIR:
      hint = "; a part of the path is a file, not a folder";
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      hint = "; check who owns it and its permissions";
      break;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      hint = "; make room or choose another folder";
      break;
    case EMFILE:
    case ENFILE:
      hint = "; too many files are open at once";
      break;
    default:
      break;
  }
  throw_error(ErrorCode::kIo, "{} {}: {}{}", doing, escape(path, kPathInMessage),
              std::generic_category().message(error_number), hint);
}

std::string read_file(const std::string& path, int64_t max_bytes) {
  max_bytes = std::min(max_bytes, kMostBytes);
  const ReadHandle file(path);
  if (file.regular() && file.size() > max_bytes) throw_too_large(path, max_bytes);
  // The size is a hint: pipes have none, /proc says 0, and a log may grow while it is read. One byte more
  // than the hint lets the last read see the end of the file.
  constexpr int64_t kFirstPiece = 1 << 16;
  std::string out;
  int64_t size = 0;
  int64_t room = std::max(file.regular() ? file.size() + 1 : 0, kFirstPiece);
  for (;;) {
    room = std::min(room, max_bytes + 1);
    out.resize(static_cast<size_t>(room));
    const int64_t got = file.read(out.data() + size, room - size);
    size += got;
    if (got == 0) break;
    if (size > max_bytes) throw_too_large(path, max_bytes);
    if (size == room) room *= 2;
  }
  out.resize(static_cast<size_t>(size));
  return out;
}

void read_in_pieces(const std::string& path, const std::function<void(std::span<const std::byte>)>& use) {
  const ReadHandle file(path);
  std::string piece(1 << 20, '\0');
  while (const int64_t got = file.read(piece.data(), static_cast<int64_t>(piece.size())))
    use(std::as_bytes(std::span(piece).first(static_cast<size_t>(got))));
}

std::string gunzip(std::string_view packed, int64_t max_bytes, std::string_view where) {
  max_bytes = std::min(max_bytes, kMostBytes);
  Unpacker unpacker(where);
  std::string out;
  int64_t size = 0;
  for (;;) {
    if (static_cast<size_t>(size) == out.size())
      out.resize(static_cast<size_t>(std::min(std::max<int64_t>(2 * size, 1 << 16), max_bytes + 1)));
    const int64_t got = unpacker.unpack(packed, out.data() + size, static_cast<int64_t>(out.size()) - size);
    size += got;
    if (size > max_bytes) throw_too_large(fmt::format("{}, unpacked", where), max_bytes);
    if (got == 0) break;
  }
  unpacker.finish();
  out.resize(static_cast<size_t>(size));
  return out;
}

std::string read_maybe_gz(const std::string& path, int64_t max_bytes) {
  max_bytes = std::min(max_bytes, kMostBytes);
  // What cannot be compressed comes out a little larger than it went in.
  const int64_t max_packed = max_bytes + max_bytes / 64 + 4096;
  std::string contents = read_file(path, max_packed);
  if (contents.starts_with("\x1f\x8b")) return gunzip(contents, max_bytes, path);
  if (static_cast<int64_t>(contents.size()) > max_bytes) throw_too_large(path, max_bytes);
  return contents;
}

struct ByteStream::Parts {
  explicit Parts(const std::string& path) : file(path) {}
  Parts() = default;

  // The next of the file, as much as there is at once.
  void refill() {
    packed = {raw.data(), static_cast<size_t>(file.read(raw.data(), static_cast<int64_t>(raw.size())))};
  }

  ReadHandle file;
  std::string raw = std::string(1 << 16, '\0'), unpacked;
  std::string_view packed;  // what of `raw` is not unpacked yet
  std::optional<Unpacker> unpacker;
  bool begun = false;
};

ByteStream::ByteStream(const std::string& path)
    : parts_(path == "-" ? std::make_unique<Parts>() : std::make_unique<Parts>(path)) {}

ByteStream::~ByteStream() = default;

const std::string& ByteStream::name() const { return parts_->file.path(); }

bool ByteStream::is_terminal() const { return ::isatty(parts_->file.fd()) != 0; }

std::string_view ByteStream::next() {
  Parts& p = *parts_;
  if (!p.begun) {
    p.begun = true;
    p.refill();
    if (p.packed == "\x1f") {  // a slow pipe: the second byte decides
      const int64_t more = p.file.read(p.raw.data() + 1, 1);
      p.packed = {p.raw.data(), static_cast<size_t>(1 + more)};
    }
    if (p.packed.starts_with("\x1f\x8b")) {
      p.unpacker.emplace(name());
      p.unpacked.resize(1 << 16);
    } else {
      return p.packed;
    }
  }
  if (!p.unpacker) {
    p.refill();
    return p.packed;
  }
  for (;;) {
    const int64_t got =
        p.unpacker->unpack(p.packed, p.unpacked.data(), static_cast<int64_t>(p.unpacked.size()));
    if (got > 0) return {p.unpacked.data(), static_cast<size_t>(got)};
    p.refill();
    if (p.packed.empty()) break;
  }
  p.unpacker->finish();
  return {};
}

bool exists(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0;
}

bool is_directory(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

void make_directories(const std::string& path) {
  std::filesystem::path prefix;
  for (const auto& part : std::filesystem::path(path)) {
    prefix /= part;
    const std::string folder = prefix.string();
    if (is_directory(folder)) continue;
    if (::mkdir(folder.c_str(), 0777) != 0 && !(errno == EEXIST && is_directory(folder)))
      throw_io_error("making the folder", folder, errno);
  }
}

int64_t file_size(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) throw_io_error("reading", path, errno);
  if (S_ISDIR(info.st_mode)) throw_io_error("reading", path, EISDIR);
  QKV_CHECK(S_ISREG(info.st_mode), kIo, "reading {}: needs a regular file, is a pipe or a device",
            escape(path, kPathInMessage));
  return info.st_size;
}

MappedFile::MappedFile(const std::string& path) : path_(path) {
  // Asked before opening: opening a pipe would wait for its writer.
  file_size(path);
  const ReadHandle file(path);
  QKV_CHECK(file.regular(), kIo, "mapping {}: needs a regular file", escape(path, kPathInMessage));
  size_ = file.size();
  if (size_ == 0) return;  // mmap refuses a length of 0
  void* const at = ::mmap(nullptr, static_cast<size_t>(size_), PROT_READ, MAP_PRIVATE, file.fd(), 0);
  if (at == MAP_FAILED) throw_io_error("mapping", path, errno);
  data_ = static_cast<const std::byte*>(at);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), static_cast<size_t>(size_));
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace qkv::io
