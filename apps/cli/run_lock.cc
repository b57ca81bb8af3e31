#include "apps/cli/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "qkv/base/error.h"
#include "qkv/io/file.h"

namespace qkv::cli {

RunLock::RunLock(const std::string& dir) {
  const std::string path = dir + "/lock";
  fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) io::throw_io_error("opening", path, errno);
  if (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    close(fd_);
    QKV_CHECK(error != EWOULDBLOCK, kIo,
              "train: another process is training in {}; wait for it, or choose another --out", dir);
    io::throw_io_error("locking", path, error);
  }
}

RunLock::~RunLock() { close(fd_); }

}  // namespace qkv::cli
