#include "qkv/io/atomic_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <utility>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/io/file.h"

namespace qkv::io {
namespace {

std::atomic<FileFault*> active_fault = nullptr;

// Runs one system call, unless a test wants it to fail or to do only its `part`; gone on with after EINTR.
template <class Call, class Part>
auto attempt(FileStep step, Call call, Part part) {
  for (;;) {
    decltype(call()) result = -1;
    int error_number = 0;
    if (!FileFault::strikes(step, &error_number))
      result = call();
    else if (error_number == 0)
      result = part();
    else
      errno = error_number;
    if (result >= 0 || errno != EINTR) return result;
  }
}

template <class Call>
auto attempt(FileStep step, Call call) {
  return attempt(step, call, call);
}

constexpr std::string_view kMark = ".tmp-", kAside = ".moved-aside";
constexpr int64_t kPathInMessage = 4096;

// <path>.tmp-<pid>-<n>, never the same twice in a process.
std::string temporary_of(const std::string& path) {
  static std::atomic<uint64_t> count = 0;
  return path + std::string(kMark) + std::to_string(::getpid()) + "-" + std::to_string(count++);
}

std::string folder_of(const std::string& path) {
  const auto folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

// The file that a writer of `path` replaces: `path`, or what a symbolic link there points to. Never something
// that is no file.
std::string target_of(const std::string& path) {
  struct stat there {};
  const bool exists = ::stat(path.c_str(), &there) == 0;
  if (exists && S_ISDIR(there.st_mode)) throw_io_error("writing", path, EISDIR);
  QKV_CHECK(!exists || S_ISREG(there.st_mode), kIo,
            "writing {}: it is a device, a pipe or a socket; the name of a file is needed here",
            escape(path, kPathInMessage));
  std::error_code error;
  if (!std::filesystem::is_symlink(path, error)) return path;
  const std::string target = std::filesystem::canonical(path, error).string();
  QKV_CHECK(!error, kIo, "writing {}: it is a link to nothing; remove it, or make what it points to",
            escape(path, kPathInMessage));
  return target;
}

// The process in "name.tmp-<pid>-<n>", nullopt for any other name.
std::optional<pid_t> process_of_temporary(std::string_view name) {
  const size_t mark = name.rfind(kMark);
  if (mark == std::string_view::npos || mark == 0) return std::nullopt;
  const char* const end = name.data() + name.size();
  pid_t pid = 0;
  const auto first = std::from_chars(name.data() + mark + kMark.size(), end, pid);
  if (first.ec != std::errc{} || pid <= 0 || first.ptr == end || *first.ptr != '-') return std::nullopt;
  uint64_t number = 0;
  const auto second = std::from_chars(first.ptr + 1, end, number);
  if (second.ec != std::errc{} || second.ptr != end) return std::nullopt;
  return pid;
}

}  // namespace

FileFault::FileFault(FileStep step, int64_t nth, int error_number)
    : step_(step), nth_(nth), error_number_(error_number) {
  active_fault = this;
}

FileFault::~FileFault() { active_fault = nullptr; }

bool FileFault::strikes(FileStep step, int* error_number) {
  FileFault* const fault = active_fault;
  if (fault == nullptr || fault->step_ != step || ++fault->seen_ != fault->nth_) return false;
  *error_number = fault->error_number_;
  return true;
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  target_ = target_of(path_);
  struct stat old {};
  const bool replaces = ::stat(target_.c_str(), &old) == 0;

  do {
    temporary_ = temporary_of(target_);
    fd_ = attempt(FileStep::kOpen,
                  [&] { return ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); });
  } while (fd_ < 0 && errno == EEXIST);
  if (fd_ < 0) throw_io_error("writing", path_, errno);
  // Who may read the old file may read the new one. Not being allowed to say so is no reason to lose data.
  if (replaces && ::fchmod(fd_, old.st_mode & 0777) != 0) errno = 0;
}

AtomicFile::~AtomicFile() { drop(); }

void AtomicFile::drop() noexcept {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  QKV_CHECK(fd_ >= 0, kIo, "writing {}: nothing more can be written after a failure or a commit", path_);
  constexpr size_t kMostAtOnce = 1 << 30;  // Linux writes at most 2 GiB - 4 KiB a call
  while (!bytes.empty()) {
    const auto write_up_to = [&](size_t most) {
      return ::write(fd_, bytes.data(), std::min(bytes.size(), most));
    };
    const ssize_t done = attempt(
        FileStep::kWrite, [&] { return write_up_to(kMostAtOnce); }, [&] { return write_up_to(1); });
    if (done < 0) {
      const int error_number = errno;
      drop();
      throw_io_error("writing", path_, error_number);
    }
    bytes = bytes.subspan(static_cast<size_t>(done));
  }
}

void AtomicFile::commit() {
  QKV_CHECK(fd_ >= 0, kIo, "writing {}: nothing can be committed after a failure or a commit", path_);
  const auto fail = [&](std::string_view doing) {
    const int error_number = errno;
    drop();
    throw_io_error(doing, path_, error_number);
  };
  if (attempt(FileStep::kFsync, [&] { return ::fsync(fd_); }) != 0) fail("writing (fsync)");
  // Linux frees the descriptor even where close is interrupted, so it is never called twice; after fsync
  // such an interruption loses nothing.
  int error_number = 0;
  const bool refused = FileFault::strikes(FileStep::kClose, &error_number);
  const int closed = ::close(std::exchange(fd_, -1));
  if (refused) errno = error_number;
  if ((closed != 0 || refused) && errno != EINTR) fail("writing (close)");
  if (attempt(FileStep::kRename, [&] { return ::rename(temporary_.c_str(), target_.c_str()); }) != 0)
    fail("replacing");
  temporary_.clear();
  sync_folder(folder_of(target_));
}

StagedFolder::StagedFolder(std::string path) : path_(std::move(path)) {
  QKV_CHECK(!exists(path_) || is_directory(path_), kIo,
            "writing the folder {}: a file of that name is in the way", path_);
  do {
    temporary_ = temporary_of(path_);
  } while (::mkdir(temporary_.c_str(), 0777) != 0 && errno == EEXIST);
  if (!is_directory(temporary_)) throw_io_error("making the folder", temporary_, errno);
}

StagedFolder::~StagedFolder() {
  std::error_code ignored;
  if (!temporary_.empty()) std::filesystem::remove_all(temporary_, ignored);
}

void StagedFolder::commit() {
  sync_folder(temporary_);
  const auto move = [&](const std::string& from, const std::string& to, unsigned flags) {
    return attempt(FileStep::kRename,
                   [&] { return ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags); });
  };
  std::string old;  // where the folder that was there before ends up
  if (!exists(path_)) {
    if (move(temporary_, path_, 0) != 0) throw_io_error("putting in place the folder", path_, errno);
  } else if (move(temporary_, path_, RENAME_EXCHANGE) == 0) {
    old = temporary_;
  } else if (errno == EINVAL || errno == ENOSYS) {
    old = path_ + std::string(kAside);
    std::error_code ignored;
    std::filesystem::remove_all(old, ignored);
    if (move(path_, old, 0) != 0) throw_io_error("replacing the folder", path_, errno);
    if (move(temporary_, path_, 0) != 0) {
      const int error_number = errno;
      ::rename(old.c_str(), path_.c_str());
      throw_io_error("replacing the folder", path_, error_number);
    }
  } else {
    throw_io_error("replacing the folder", path_, errno);
  }
  temporary_.clear();
  sync_folder(folder_of(path_));
  std::error_code ignored;
  if (!old.empty()) std::filesystem::remove_all(old, ignored);
}

void sync_folder(const std::string& dir) {
  const int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) throw_io_error("syncing the folder", dir, errno);
  const int result = attempt(FileStep::kFsyncFolder, [&] { return ::fsync(fd); });
  const int error_number = errno;
  ::close(fd);
  // EINVAL: a file system that has nothing to sync for a folder.
  if (result != 0 && error_number != EINVAL)
    throw_io_error("after replacing its file, which might not survive a power cut, syncing the folder", dir,
                   error_number);
}

void write_file_atomically(const std::string& path, std::span<const std::byte> contents) {
  AtomicFile file(path);
  file.write(contents);
  file.commit();
}

void write_file_atomically(const std::string& path, std::string_view contents) {
  write_file_atomically(path, std::as_bytes(std::span(contents)));
}

int64_t remove_abandoned_temporaries(const std::string& dir) {
  int64_t removed = 0;
  std::error_code error;
  std::filesystem::directory_iterator files(dir, error);
  for (; !error && files != std::filesystem::directory_iterator(); files.increment(error)) {
    const std::string path = files->path().string();
    if (path.ends_with(kAside)) {
      const std::string place = path.substr(0, path.size() - kAside.size());
      std::error_code ignored;
      if (exists(place))
        std::filesystem::remove_all(path, ignored);
      else
        ::rename(path.c_str(), place.c_str());
      continue;
    }
    const auto pid = process_of_temporary(files->path().filename().string());
    const bool gone = pid && ::kill(*pid, 0) != 0 && errno == ESRCH;
    std::error_code ignored;
    if (gone && std::filesystem::remove_all(files->path(), ignored) > 0) ++removed;
  }
  return removed;
}

}  // namespace qkv::io
