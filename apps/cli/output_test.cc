#include "apps/cli/output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "qkv/io/testing.h"

namespace qkv::cli {
namespace {

using io::testing::get;
using io::testing::put;
using io::testing::TemporaryFolder;
using Names = std::set<std::string>;

TEST(Output, AFileIsWhollyNewOrWhollyOld) {
  TemporaryFolder folder;
  put(folder / "x", "old");
  {
    Output left(folder / "x");
    left.write("half");
  }
  EXPECT_EQ(get(folder / "x"), "old");
  Output output(folder / "x");
  EXPECT_FALSE(output.is_terminal());
  output.write("ne");
  output.write("w");
  EXPECT_EQ(get(folder / "x"), "old");
  output.commit();
  EXPECT_EQ(get(folder / "x"), "new");
  EXPECT_EQ(folder.names(), Names{"x"});
}

TEST(Output, DevicesAndPipesAreWrittenToAndStay) {
  TemporaryFolder folder;
  std::filesystem::create_symlink("/dev/null", folder / "device");
  write_output(folder / "device", "text");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "device"));

  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0666), 0);
  const int reader = ::open((folder / "pipe").c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  write_output(folder / "pipe", "text");
  char got[8] = {};
  EXPECT_EQ(::read(reader, got, sizeof(got)), 4);
  EXPECT_STREQ(got, "text");
  ::close(reader);
  EXPECT_EQ(folder.names(), (Names{"device", "pipe"}));
}

// Not opened by its name: a file under standard output keeps what stands in it already.
TEST(Output, NamesOfStandardOutputAreStandardOutput) {
  for (const char* name : {"", "-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}) {
    ::testing::internal::CaptureStdout();
    std::printf("before ");
    write_output(name, "text ");
    std::printf("after");
    EXPECT_EQ(::testing::internal::GetCapturedStdout(), "before text after") << name;
  }
  EXPECT_ERROR(kIo, "/dev/fd/987654", write_output("/dev/fd/987654", "text"));
}

TEST(Output, AnOptionTriesItsFileBeforeTheWorkAndLeavesNothing) {
  TemporaryFolder folder;
  put(folder / "old", "old");
  const auto call = [&](const std::string& path) {
    CLI::App app;
    std::string out;
    add_output_option(app, "--svg", out, "charts");
    app.parse({path, "--svg"});  // back to front: CLI11's order
    return out;
  };
  EXPECT_ERROR(kIo, "the folder " + folder / "no" + " does not exist", call(folder / "no/where"));
  for (const std::string& path : {folder / "new", folder / "old", std::string("-"), std::string("/dev/null")})
    EXPECT_EQ(call(path), path);
  EXPECT_EQ(folder.names(), Names{"old"});
  EXPECT_EQ(get(folder / "old"), "old");
}

TEST(Output, OnlyATerminalGetsTextWithoutControls) {
  const int control = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (control < 0 || ::grantpt(control) != 0 || ::unlockpt(control) != 0) GTEST_SKIP() << "no terminals here";
  const Output terminal(::ptsname(control));
  EXPECT_TRUE(terminal.is_terminal());
  EXPECT_EQ(terminal.shown("a\x1b[2Jb"), "a\uFFFD[2Jb");
  ::close(control);
  TemporaryFolder folder;
  EXPECT_EQ(Output(folder / "x").shown("a\x1b[2Jb"), "a\x1b[2Jb");
  EXPECT_EQ(Output("/dev/null").shown("a\x1b[2Jb"), "a\x1b[2Jb");
}

TEST(Output, WhatIsNotedTakesTheStatusLinesPlace) {
  ::testing::internal::CaptureStderr();
  show_status("half");
  show_status("most");
  note("done\n");
  note("and over\n");
  show_status("half");
  show_status("");
  show_status("");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "half\r\033[Kmost\r\033[Kdone\nand over\nhalf\r\033[K");
}
TEST(Output, AFullDeviceIsNamedWithTheReason) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  EXPECT_ERROR(kIo, "writing /dev/full: No space left on device", write_output("/dev/full", "text"));
  TemporaryFolder folder;
  EXPECT_ERROR(kIo, "Is a directory", write_output(folder.path(), "text"));
}

}  // namespace
}  // namespace qkv::cli
