#include "qkv/io/atomic_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "qkv/io/testing.h"

namespace qkv::io {
namespace {

using testing::get;
using testing::put;
using testing::TemporaryFolder;
using Names = std::set<std::string>;

TEST(AtomicFile, ReplacesTheOldContentsOnCommitAndNotBefore) {
  TemporaryFolder folder;
  put(folder / "x", "old");
  AtomicFile file(folder / "x");
  file.write("ne");
  file.write("w");
  EXPECT_EQ(get(folder / "x"), "old");
  file.commit();
  EXPECT_EQ(get(folder / "x"), "new");
  EXPECT_EQ(folder.names(), Names{"x"});
  EXPECT_ERROR(kIo, "after a failure or a commit", file.write("more"));
  EXPECT_ERROR(kIo, "after a failure or a commit", file.commit());
}

TEST(AtomicFile, LeavesNothingBehindWithoutCommit) {
  TemporaryFolder folder;
  put(folder / "x", "old");
  {
    AtomicFile file(folder / "x");
    file.write("new");
    EXPECT_EQ(folder.names().size(), 2u);
  }
  EXPECT_EQ(get(folder / "x"), "old");
  EXPECT_EQ(folder.names(), Names{"x"});
}

TEST(AtomicFile, WritesEmptyFilesAndNamesWithoutAFolder) {
  TemporaryFolder folder;
  write_file_atomically(folder / "empty", "");
  EXPECT_EQ(std::filesystem::file_size(folder / "empty"), 0u);
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  write_file_atomically("here", "x");
  std::filesystem::current_path(before);
  EXPECT_EQ(get(folder / "here"), "x");
}

TEST(AtomicFile, KeepsThePermissionsOfTheOldFile) {
  TemporaryFolder folder;
  put(folder / "x", "old");
  ::chmod((folder / "x").c_str(), 0640);
  write_file_atomically(folder / "x", "new");
  struct stat info {};
  ASSERT_EQ(::stat((folder / "x").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
}

TEST(AtomicFile, ALinkStaysAndItsTargetIsReplaced) {
  TemporaryFolder folder;
  std::filesystem::create_directory(folder / "elsewhere");
  put(folder / "elsewhere/x", "old");
  std::filesystem::create_symlink("elsewhere/x", folder / "link");
  {
    AtomicFile file(folder / "link");
    EXPECT_EQ(folder.names(), (Names{"elsewhere", "link"})) << "the temporary lies beside the target";
    file.write("new");
    file.commit();
  }
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(get(folder / "elsewhere/x"), "new");
  std::filesystem::create_symlink("nowhere", folder / "broken");
  EXPECT_ERROR(kIo, folder / "broken: it is a link to nothing", AtomicFile(folder / "broken"));
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "broken"));
}

// /dev/null itself would not survive a test that fails, so: a pipe, and a link to the device.
TEST(AtomicFile, RefusesWhatIsNoFile) {
  TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0666), 0);
  std::filesystem::create_symlink("/dev/null", folder / "device");
  for (const char* name : {"pipe", "device"})
    EXPECT_ERROR(kIo, std::string(name) + ": it is a device, a pipe or a socket",
                 write_file_atomically(folder / name, "new"));
  EXPECT_TRUE(std::filesystem::is_fifo(folder / "pipe"));
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "device"));
  EXPECT_EQ(folder.names(), (Names{"device", "pipe"}));
}

struct Failure {
  FileStep step;
  int64_t nth;
  int error_number;
  const char* text;
};

TEST(AtomicFile, EachFailureIsNamedLeavesTheOldFileAndNoDebris) {
  for (const Failure& failure : {Failure{FileStep::kOpen, 1, ENOSPC, "No space left on device"},
                                 Failure{FileStep::kOpen, 1, EACCES, "Permission denied"},
                                 Failure{FileStep::kWrite, 1, ENOSPC, "No space left on device; make room"},
                                 Failure{FileStep::kWrite, 3, EIO, "Input/output error"},
                                 Failure{FileStep::kFsync, 1, EIO, "Input/output error"},
                                 Failure{FileStep::kFsync, 1, ENOSPC, "No space left on device"},
                                 Failure{FileStep::kClose, 1, EIO, "Input/output error"},
                                 Failure{FileStep::kClose, 1, EDQUOT, "quota"},
                                 Failure{FileStep::kRename, 1, EACCES, "Permission denied"}}) {
    TemporaryFolder folder;
    put(folder / "x", "old");
    const FileFault fault(failure.step, failure.nth, failure.error_number);
    const std::string text = testing::error_of(ErrorCode::kIo, [&] {
      AtomicFile file(folder / "x");
      for (int i = 0; i < 3; ++i) file.write("new");
      file.commit();
    });
    EXPECT_TRUE(fault.fired());
    EXPECT_NE(text.find(failure.text), std::string::npos) << text;
    EXPECT_NE(text.find(folder / "x"), std::string::npos) << text;
    EXPECT_EQ(get(folder / "x"), "old");
    EXPECT_EQ(folder.names(), Names{"x"}) << text;
  }
}

// The rename has happened: the contents are new and whole, and the message says what is uncertain.
TEST(AtomicFile, AFailingFolderSyncIsReportedAndTheFileIsWhole) {
  TemporaryFolder folder;
  put(folder / "x", "old");
  {
    const FileFault fault(FileStep::kFsyncFolder, 1, EIO);
    EXPECT_ERROR(kIo, "might not survive a power cut", write_file_atomically(folder / "x", "new"));
  }
  EXPECT_EQ(get(folder / "x"), "new");
  EXPECT_EQ(folder.names(), Names{"x"});
}

TEST(AtomicFile, AfterAFailureNothingCanBeCommitted) {
  TemporaryFolder folder;
  put(folder / "x", "old");
  AtomicFile file(folder / "x");
  {
    const FileFault fault(FileStep::kWrite, 1, ENOSPC);
    EXPECT_ERROR(kIo, "No space left", file.write("new"));
  }
  EXPECT_ERROR(kIo, "after a failure", file.write("new"));
  EXPECT_ERROR(kIo, "after a failure", file.commit());
  EXPECT_EQ(get(folder / "x"), "old");
  EXPECT_EQ(folder.names(), Names{"x"});
}

TEST(AtomicFile, GoesOnAfterShortWritesAndInterruptions) {
  for (const Failure& bump :
       {Failure{FileStep::kWrite, 1, 0, ""}, Failure{FileStep::kWrite, 1, EINTR, ""},
        Failure{FileStep::kFsync, 1, EINTR, ""}, Failure{FileStep::kOpen, 1, EINTR, ""},
        Failure{FileStep::kClose, 1, EINTR, ""}, Failure{FileStep::kRename, 1, EINTR, ""},
        Failure{FileStep::kFsyncFolder, 1, EINTR, ""}, Failure{FileStep::kFsyncFolder, 1, EINVAL, ""}}) {
    TemporaryFolder folder;
    const FileFault fault(bump.step, bump.nth, bump.error_number);
    write_file_atomically(folder / "x", "a text that is longer than one byte");
    EXPECT_TRUE(fault.fired());
    EXPECT_EQ(get(folder / "x"), "a text that is longer than one byte");
  }
}

TEST(AtomicFile, RefusesFoldersAndMissingOnes) {
  TemporaryFolder folder;
  EXPECT_ERROR(kIo, "Is a directory", AtomicFile(folder.path()));
  EXPECT_ERROR(kIo, "does not exist", AtomicFile(folder / "no/x"));
  EXPECT_EQ(folder.names(), Names{});
}

// A real limit of the kernel, in a child so that it binds nobody else: what fits is written, the rest fails.
TEST(AtomicFile, AFileSizeLimitFailsLikeAFullDisk) {
  TemporaryFolder folder;
  put(folder / "x", "old");
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_file_atomically(folder / "x", std::string(10000, 'n'));
    } catch (const Error& error) {
      ::_exit(std::string_view(error.what()).find("File too large") != std::string_view::npos ? 42 : 1);
    }
    ::_exit(2);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 42);
  EXPECT_EQ(get(folder / "x"), "old");
  EXPECT_EQ(folder.names(), Names{"x"});
}

TEST(AtomicFile, AFullDiskLeavesTheOldFileAndNoDebris) {
  TemporaryFolder folder;
  std::filesystem::create_directory(folder / "disk");
  const std::string disk = folder / "disk";
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=64k") != 0)
    GTEST_SKIP() << "mounting a small disk is not permitted here: " << std::generic_category().message(errno);
  struct Unmount {
    const std::string& at;
    ~Unmount() { EXPECT_EQ(::umount2(at.c_str(), MNT_DETACH), 0); }
  } unmount{disk};
  put(disk + "/x", "old");
  EXPECT_ERROR(kIo, disk + "/x: No space left on device; make room",
               write_file_atomically(disk + "/x", std::string(1 << 20, 'n')));
  EXPECT_EQ(get(disk + "/x"), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(disk), {}), 1);
  write_file_atomically(disk + "/x", "new");  // and there is room again
  EXPECT_EQ(get(disk + "/x"), "new");
}

TEST(RemoveAbandonedTemporaries, TakesOnlyThoseOfProcessesThatAreGone) {
  TemporaryFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    // Killed between writing and committing.
    AtomicFile file(folder / "x");
    file.write("half");
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(folder.names().size(), 1u);
  AtomicFile ours(folder / "y");
  put(folder / "notes.tmp-mine", "");
  put(folder / "x.tmp-12", "");
  put(folder / "x.tmp-99999999999999999999-0", "");
  EXPECT_EQ(remove_abandoned_temporaries(folder.path()), 1);
  EXPECT_EQ(folder.names().size(), 4u);
  EXPECT_EQ(remove_abandoned_temporaries(folder / "no such folder"), 0);
}

TEST(StagedFolder, IsSeenAsAWholeOnCommitOnly) {
  TemporaryFolder folder;
  std::filesystem::create_directory(folder / "model");
  put(folder / "model/old", "1");
  {
    StagedFolder stage(folder / "model");
    put(stage.path() + "/half", "2");
  }
  EXPECT_EQ(folder.names(), Names{"model"});
  EXPECT_EQ(get(folder / "model/old"), "1");

  StagedFolder stage(folder / "model");
  put(stage.path() + "/new", "3");
  EXPECT_FALSE(std::filesystem::exists(folder / "model/new"));
  stage.commit();
  EXPECT_EQ(folder.names(), Names{"model"});
  EXPECT_EQ(get(folder / "model/new"), "3");
  EXPECT_FALSE(std::filesystem::exists(folder / "model/old"));

  StagedFolder first(folder / "fresh");
  first.commit();
  EXPECT_EQ(folder.names(), (Names{"fresh", "model"}));
}

TEST(StagedFolder, WorksWhereFoldersCannotBeExchanged) {
  TemporaryFolder folder;
  std::filesystem::create_directory(folder / "model");
  put(folder / "model/old", "1");
  StagedFolder stage(folder / "model");
  put(stage.path() + "/new", "2");
  const FileFault fault(FileStep::kRename, 1, EINVAL);
  stage.commit();
  EXPECT_TRUE(fault.fired());
  EXPECT_EQ(folder.names(), Names{"model"});
  EXPECT_EQ(get(folder / "model/new"), "2");
}

TEST(StagedFolder, WithoutExchangeAFailureOrAKillGivesTheOldFolderBack) {
  TemporaryFolder folder;
  std::filesystem::create_directory(folder / "model.moved-aside");
  put(folder / "model.moved-aside/old", "1");
  remove_abandoned_temporaries(folder.path());
  EXPECT_EQ(folder.names(), Names{"model"});
  EXPECT_EQ(get(folder / "model/old"), "1");
  std::filesystem::create_directory(folder / "model.moved-aside");
  remove_abandoned_temporaries(folder.path());
  EXPECT_EQ(folder.names(), Names{"model"});
}

TEST(StagedFolder, AFailureLeavesTheOldFolder) {
  TemporaryFolder folder;
  std::filesystem::create_directory(folder / "model");
  put(folder / "model/old", "1");
  {
    StagedFolder stage(folder / "model");
    put(stage.path() + "/new", "2");
    const FileFault fault(FileStep::kRename, 1, EIO);
    EXPECT_ERROR(kIo, "replacing the folder", stage.commit());
  }
  EXPECT_EQ(folder.names(), Names{"model"});
  EXPECT_EQ(get(folder / "model/old"), "1");
}

}  // namespace
}  // namespace qkv::io
