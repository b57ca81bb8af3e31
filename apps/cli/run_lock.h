#pragma once

#include <string>

namespace qkv::cli {

/// Holds a run directory for one process: two trainings in one folder would delete each other's checkpoints.
/// The lock goes with the process, however it ends.
class RunLock {
 public:
  /// Error kIo: another process trains there; or the folder cannot be written.
  explicit RunLock(const std::string& dir);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace qkv::cli
