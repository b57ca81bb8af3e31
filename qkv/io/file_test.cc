#include "qkv/io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <random>
#include <thread>
#include <utility>

#include "qkv/io/testing.h"

namespace qkv::io {
namespace {

using testing::get;
using testing::put;
using testing::TemporaryFolder;

std::string gzip(std::string_view text) {
  z_stream stream{};
  deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

TEST(ReadFile, GivesTheBytesAsTheyAre) {
  TemporaryFolder folder;
  const std::string contents("a\0b\r\n\xff", 6);
  put(folder / "x", contents);
  EXPECT_EQ(read_file(folder / "x", 100), contents);
  put(folder / "empty", "");
  EXPECT_EQ(read_file(folder / "empty", 100), "");
  EXPECT_EQ(read_file(folder / "empty", 0), "");
}

TEST(ReadFile, TakesExactlyTheLimitAndRefusesOneByteMore) {
  TemporaryFolder folder;
  put(folder / "x", std::string(70000, 'x'));
  EXPECT_EQ(read_file(folder / "x", 70000).size(), 70000u);
  EXPECT_EQ(read_file(folder / "x", INT64_MAX).size(), 70000u);
  EXPECT_ERROR(kFormat, "at most 69999 bytes", read_file(folder / "x", 69999));
}

TEST(ReadFile, NamesPathReasonAndWayOut) {
  TemporaryFolder folder;
  EXPECT_ERROR(kIo, (folder / "no") + ": No such file or directory; check the name",
               read_file(folder / "no", 9));
  EXPECT_ERROR(kIo, "the folder " + (folder / "gone") + " does not exist", read_file(folder / "gone/x", 9));
  EXPECT_ERROR(kIo, folder.path() + ": Is a directory; a file is needed here", read_file(folder.path(), 9));
  put(folder / "x", "x");
  EXPECT_ERROR(kIo, "Not a directory", read_file(folder / "x/y", 9));
  EXPECT_ERROR(kIo, "No such file", read_file("", 9));
  // A name from outside cannot fake a line of its own.
  EXPECT_ERROR(kIo, "evil\\nname", read_file(folder / "evil\nname", 9));
}

TEST(ReadFile, SaysThatPermissionIsMissing) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may read everything";
  TemporaryFolder folder;
  put(folder / "x", "x");
  ::chmod((folder / "x").c_str(), 0);
  EXPECT_ERROR(kIo, "Permission denied; check", read_file(folder / "x", 9));
}

TEST(ReadFile, ReadsAPipeAndAnEndlessDeviceUpToTheLimit) {
  TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::thread writer([&] { put(folder / "pipe", std::string(200000, 'p')); });
  EXPECT_EQ(read_file(folder / "pipe", 1 << 20), std::string(200000, 'p'));
  writer.join();
  EXPECT_ERROR(kFormat, "at most 1000000 bytes", read_file("/dev/zero", 1000000));
  // Files that say they have 0 bytes and have more.
  EXPECT_GT(read_file("/proc/self/status", 1 << 20).size(), 100u);
}

TEST(ReadMaybeGz, UnpacksWhatIsGzipAndPassesTheRestOn) {
  TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 50000; ++i) text += std::to_string(i * 7919 % 1000);
  put(folder / "x.gz", gzip(text));
  put(folder / "x.txt", text);
  EXPECT_EQ(read_maybe_gz(folder / "x.gz", 1 << 20), text);
  EXPECT_EQ(read_maybe_gz(folder / "x.txt", 1 << 20), text);
  put(folder / "empty.gz", gzip(""));
  EXPECT_EQ(read_maybe_gz(folder / "empty.gz", 0), "");
  put(folder / "empty", "");
  EXPECT_EQ(read_maybe_gz(folder / "empty", 0), "");
}

TEST(ReadMaybeGz, JoinsMembersAsGunzipDoes) {
  EXPECT_EQ(gunzip(gzip("one ") + gzip("") + gzip("two"), 100, "x"), "one two");
}

TEST(ReadMaybeGz, TakesExactlyTheLimitAndRefusesOneByteMore) {
  for (const int64_t size : {1, 65535, 65536, 65537, 300000}) {
    const std::string text(static_cast<size_t>(size), 'x');
    EXPECT_EQ(gunzip(gzip(text), size, "x"), text) << size;
    EXPECT_ERROR(kFormat, "x, unpacked: needs to be at most", gunzip(gzip(text), size - 1, "x"));
  }
}

TEST(ReadMaybeGz, ABombCostsNoMoreThanTheLimit) {
  std::string bomb = gzip(std::string(64 << 20, '\0'));  // 64 MiB in 64 KiB
  EXPECT_LT(bomb.size(), 100000u);
  EXPECT_ERROR(kFormat, "at most 1000 bytes", gunzip(bomb, 1000, "bomb.gz"));
}

TEST(ReadMaybeGz, EveryTruncationIsAnError) {
  const std::string packed = gzip("It is a truth universally acknowledged, that a single man");
  for (size_t size = 0; size < packed.size(); ++size)
    EXPECT_ERROR(kFormat, "end too early", gunzip(packed.substr(0, size), 1000, "x"));
  // The second member cut within its magic.
  EXPECT_ERROR(kFormat, "end too early", gunzip(packed + "\x1f", 1000, "x"));
}

TEST(ReadMaybeGz, DamageAndForeignTailsAreErrors) {
  const std::string good = gzip("It is a truth universally acknowledged, that a single man");
  std::string damaged = good;
  damaged[damaged.size() - 6] ^= 1;  // in the CRC-32
  EXPECT_ERROR(kFormat, "damaged", gunzip(damaged, 1000, "x"));
  EXPECT_ERROR(kFormat, "bytes that are not gzip follow the gzip data, at byte",
               gunzip(good + "tail", 1000, "x"));
  EXPECT_ERROR(kFormat, "damaged", gunzip("plain text", 1000, "x"));
}

TEST(ReadInPieces, GivesEverythingInOrder) {
  TemporaryFolder folder;
  std::string text((2 << 20) + 17, '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 2654435761u >> 24);
  put(folder / "x", text);
  std::string seen;
  read_in_pieces(folder / "x", [&](std::span<const std::byte> piece) {
    seen.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  });
  EXPECT_TRUE(seen == text);
}

TEST(MappedFile, ShowsTheBytesAndSurvivesEmptyFilesMovesAndReplacement) {
  TemporaryFolder folder;
  put(folder / "x", "hello");
  MappedFile file(folder / "x");
  MappedFile moved(std::move(file));
  EXPECT_EQ(moved.size(), 5);
  EXPECT_TRUE(file.bytes().empty());
  put(folder / "y", "other");
  std::filesystem::rename(folder / "y", folder / "x");
  EXPECT_EQ(static_cast<char>(moved.bytes()[4]), 'o');

  put(folder / "empty", "");
  moved = MappedFile(folder / "empty");
  EXPECT_TRUE(moved.bytes().empty());
}

TEST(MappedFile, RefusesFoldersPipesAndWhatIsMissing) {
  TemporaryFolder folder;
  EXPECT_ERROR(kIo, "Is a directory", MappedFile(folder.path()));
  EXPECT_ERROR(kIo, "No such file", MappedFile(folder / "no"));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_ERROR(kIo, "is a pipe or a device", MappedFile(folder / "pipe"));  // and does not wait for a writer
}

TEST(MakeDirectories, MakesTheMissingOnesAndNamesWhatIsInTheWay) {
  TemporaryFolder folder;
  make_directories(folder / "a/b/c/");
  EXPECT_TRUE(is_directory(folder / "a/b/c"));
  make_directories(folder / "a/b/c");
  put(folder / "a/file", "");
  EXPECT_ERROR(kIo, (folder / "a/file") + ": File exists", make_directories(folder / "a/file/d"));
  EXPECT_TRUE(exists(folder / "a/file"));
  EXPECT_FALSE(is_directory(folder / "a/file"));
  EXPECT_FALSE(exists(folder / "a/none"));
}

// All that a stream gives, and its name.
std::string all_of(const std::string& path) {
  ByteStream stream(path);
  EXPECT_EQ(stream.name(), path);
  EXPECT_FALSE(stream.is_terminal());
  std::string all;
  for (std::string_view piece = stream.next(); !piece.empty(); piece = stream.next()) all += piece;
  EXPECT_TRUE(stream.next().empty()) << "the end stays the end";
  return all;
}

TEST(ByteStream, GivesWhatReadMaybeGzGives) {
  TemporaryFolder folder;
  std::string text;
  for (int i = 0; text.size() < 300000; ++i) text += std::to_string(i * 7919) + "\n";
  const std::string zeros(5 << 20, '\0');
  for (const std::string& contents :
       {std::string(), std::string("x"), std::string("\x1f"), std::string("\x1f\x8c"), text, gzip(text),
        gzip(""), gzip(zeros), gzip("one ") + gzip("") + gzip(text) + gzip(zeros)}) {
    put(folder / "x", contents);
    EXPECT_EQ(all_of(folder / "x"), read_maybe_gz(folder / "x", 1 << 30));
  }
}

TEST(ByteStream, NamesWhatIsDamaged) {
  TemporaryFolder folder;
  const std::string packed = gzip("some text that is long enough");
  for (size_t size = 2; size < packed.size(); ++size) {
    put(folder / "x.gz", packed.substr(0, size));
    EXPECT_ERROR(kFormat, folder / "x.gz: the gzip data end too early", all_of(folder / "x.gz"));
  }
  put(folder / "x.gz", packed + "tail");
  EXPECT_ERROR(kFormat, "bytes that are not gzip follow", all_of(folder / "x.gz"));
  put(folder / "x.gz", std::string(packed).replace(12, 3, "xyz"));
  EXPECT_ERROR(kFormat, "damaged", all_of(folder / "x.gz"));
  EXPECT_ERROR(kIo, "a file is needed", ByteStream(folder.path()));
  EXPECT_ERROR(kIo, "check the name", ByteStream(folder / "missing"));
}

}  // namespace
}  // namespace qkv::io
