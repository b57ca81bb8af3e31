#pragma once
// Files that are either wholly new or wholly old, whatever happens in between.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace qkv::io {

/// Replaces `path` by `contents`, durably: when this returns, the new contents survive a power cut.
/// Errors and guarantees as for AtomicFile.
void write_file_atomically(const std::string& path, std::span<const std::byte> contents);
void write_file_atomically(const std::string& path, std::string_view contents);

/// A file written beside its destination and renamed over it on commit.
///
///     AtomicFile file("run/model.safetensors");
///     file.write(header);
///     file.write(data);
///     file.commit();   // fsync, close, rename, fsync of the folder
///
/// Until commit() renames, `path` is untouched; without commit(), or when anything fails, the destructor
/// removes the temporary file. Short writes and EINTR are gone on with; errors of fsync and close count.
/// If only the last step (fsync of the folder) fails, `path` already holds the whole new contents and the
/// Error says that they might not survive a power cut.
///
/// The temporary is called <path>.tmp-<pid>-<n>. A process killed in between leaves it behind, and
/// remove_abandoned_temporaries takes it away. An existing file's permission bits are kept. A symbolic link
/// to a file stays: its target is replaced, and the temporary lies beside that. What exists and is no file (a
/// device, a pipe, a folder, a link to nothing) is refused: renaming over it would destroy it.
///
/// Throws Error kIo naming the file and the reason (no space left on device, ...).
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void commit();

 private:
  void drop() noexcept;                    // closes and removes the temporary
  std::string path_, target_, temporary_;  // as given; what is replaced; what is written
  int fd_ = -1;
};

/// A folder written beside its destination and put in its place as a whole.
///
///     StagedFolder stage("run/best");
///     model.save(stage.path());   // any files
///     stage.commit();             // run/best is the new folder; the old one is gone
///
/// Until commit() nothing is seen at the destination; without it, or when anything fails, the destructor
/// removes what was written. An existing folder is exchanged in one step (renameat2), so that a complete one
/// is there at every moment; on a file system without that step, the old one is moved aside first
/// (<path>.moved-aside, which remove_abandoned_temporaries puts back if a kill came in between). The files in
/// it need to be durable already, as those of AtomicFile are. Temporary names and errors as for AtomicFile.
class StagedFolder {
 public:
  explicit StagedFolder(std::string path);
  ~StagedFolder();
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  const std::string& path() const { return temporary_; }
  void commit();

 private:
  std::string path_, temporary_;
};

/// Removes `*.tmp-<pid>-<n>` (files and folders) in `dir` whose process is gone; returns how many. For the
/// start of a run.
int64_t remove_abandoned_temporaries(const std::string& dir);

/// Makes the names in a folder (files created, renamed, removed) durable. Error kIo.
void sync_folder(const std::string& dir);

/// The steps of an AtomicFile that can fail.
enum class FileStep { kOpen, kWrite, kFsync, kClose, kRename, kFsyncFolder };

/// For tests: while alive, the nth call (from 1) of `step` by any AtomicFile fails with `error_number`
/// instead of being made. For kWrite, error_number 0 makes the call a short write of one byte. One at a time.
class FileFault {
 public:
  FileFault(FileStep step, int64_t nth, int error_number);
  ~FileFault();
  FileFault(const FileFault&) = delete;
  FileFault& operator=(const FileFault&) = delete;
  bool fired() const { return seen_ >= nth_; }

  /// Asked by AtomicFile before each call: true when this one is to fail.
  static bool strikes(FileStep step, int* error_number);

 private:
  FileStep step_;
  int64_t nth_;
  int error_number_;
  std::atomic<int64_t> seen_ = 0;
};

}  // namespace qkv::io
