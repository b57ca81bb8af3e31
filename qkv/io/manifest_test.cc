#include "qkv/io/manifest.h"

#include <cerrno>

#include "qkv/io/atomic_file.h"
#include "qkv/io/sha256.h"
#include "qkv/io/testing.h"

namespace qkv::io {
namespace {

using testing::put;
using testing::TemporaryFolder;

// A folder as a checkpoint leaves it.
void fill(const TemporaryFolder& folder) {
  put(folder / "model.safetensors", "weights");
  put(folder / "optimizer.bin", std::string(100, 'o'));
  put(folder / "empty", "");
  write_manifest(folder.path(), {"model.safetensors", "optimizer.bin", "empty"}, {{"step", 300}});
}

TEST(Manifest, AFolderJustWrittenIsValidAndTellsWhatItIsAbout) {
  TemporaryFolder folder;
  fill(folder);
  const ManifestCheck check = verify_manifest(folder.path());
  EXPECT_TRUE(check.ok) << check.reason;
  EXPECT_EQ(check.about["step"], 300);
  EXPECT_EQ(check.files, (std::vector<std::string>{"empty", "model.safetensors", "optimizer.bin"}));
  put(folder / "notes.txt", "not listed, not looked at");
  EXPECT_TRUE(verify_manifest(folder.path()));
}

TEST(Manifest, StoresSizesAndHashes) {
  TemporaryFolder folder;
  fill(folder);
  const Json json = read_json(folder / "manifest.json");
  EXPECT_EQ(json["files"]["model.safetensors"]["bytes"], 7);
  EXPECT_EQ(json["files"]["model.safetensors"]["sha256"], sha256_hex("weights"));
}

std::string reason_after(const TemporaryFolder& folder) {
  const ManifestCheck check = verify_manifest(folder.path());
  EXPECT_FALSE(check.ok);
  EXPECT_TRUE(check.files.empty());
  return check.reason;
}

TEST(Manifest, NamesTheFileThatIsMissingShortLongOrAltered) {
  TemporaryFolder folder;
  fill(folder);
  put(folder / "model.safetensors", "weightS");
  EXPECT_EQ(reason_after(folder),
            (folder / "model.safetensors") +
                ": its SHA-256 differs from the manifest's; it was damaged after it was saved");
  put(folder / "model.safetensors", "weight");
  EXPECT_NE(reason_after(folder).find("model.safetensors: needs 7 bytes, has 6"), std::string::npos);
  put(folder / "model.safetensors", "weights!");
  EXPECT_NE(reason_after(folder).find("model.safetensors: needs 7 bytes, has 8"), std::string::npos);
  std::filesystem::remove(folder / "model.safetensors");
  EXPECT_NE(reason_after(folder).find("model.safetensors: No such file"), std::string::npos);
  std::filesystem::create_directory(folder / "model.safetensors");
  EXPECT_NE(reason_after(folder).find("model.safetensors: Is a directory"), std::string::npos);
}

TEST(Manifest, EveryDamagedBitOfAFileIsNoticed) {
  TemporaryFolder folder;
  put(folder / "x", "weights");
  write_manifest(folder.path(), {"x"});
  for (size_t bit = 0; bit < 7 * 8; ++bit) {
    std::string damaged = "weights";
    damaged[bit / 8] ^= static_cast<char>(1 << bit % 8);
    put(folder / "x", damaged);
    EXPECT_FALSE(verify_manifest(folder.path())) << bit;
  }
  put(folder / "x", "weights");
  EXPECT_TRUE(verify_manifest(folder.path()));
}

TEST(Manifest, WithoutAWholeManifestNothingIsValid) {
  TemporaryFolder folder;
  EXPECT_NE(reason_after(folder).find("manifest.json: No such file"), std::string::npos);
  fill(folder);
  const std::string manifest = testing::get(folder / "manifest.json");
  for (size_t size = 0; size + 1 < manifest.size(); size += 5) {  // without its last '\n' it is whole
    put(folder / "manifest.json", manifest.substr(0, size));
    EXPECT_NE(reason_after(folder).find("manifest.json"), std::string::npos);
  }
  const std::string hash(64, '0');
  for (const std::string& contents :
       {std::string("{}"), std::string("[]"), std::string("7"),
        std::string(R"({"format":"other","version":1,"about":{},"files":{}})"),
        std::string(R"({"format":"qkv-manifest","version":2,"about":{},"files":{}})"),
        std::string(R"({"format":"qkv-manifest","version":1,"about":{},"files":[]})"),
        std::string(R"({"format":"qkv-manifest","version":1,"about":{},"files":{"empty":{"bytes":0}}})"),
        std::string(
            R"({"format":"qkv-manifest","version":1,"about":{},"files":{"empty":{"bytes":-1,"sha256":""}}})"),
        R"({"format":"qkv-manifest","version":1,"about":{},"files":{"empty":{"bytes":0,"sha256":")" + hash +
            R"("}}})"}) {
    put(folder / "manifest.json", contents);
    EXPECT_FALSE(reason_after(folder).empty()) << contents;
  }
}

TEST(Manifest, NeverLeavesItsFolder) {
  TemporaryFolder folder;
  fill(folder);
  for (const std::string_view name : {"../x", "a/b", "a\\b", "..", ".", "", "-rf", "/etc/passwd"}) {
    EXPECT_FALSE(is_plain_file_name(name)) << name;
    EXPECT_ERROR(kValue, "needs plain file names", write_manifest(folder.path(), {std::string(name)}));
    const Json manifest = {{"format", "qkv-manifest"},
                           {"version", 1},
                           {"about", Json::object()},
                           {"files", {{std::string(name), {{"bytes", 0}, {"sha256", sha256_hex("")}}}}}};
    put(folder / "manifest.json", dump_json(manifest));
    EXPECT_NE(reason_after(folder).find("needs plain file names"), std::string::npos) << name;
  }
  EXPECT_FALSE(is_plain_file_name(std::string_view("a\0b", 3)));
  EXPECT_TRUE(is_plain_file_name("model-00001-of-00005.safetensors"));
  EXPECT_TRUE(is_plain_file_name("..x"));
}

TEST(WriteManifest, RefusesWhatIsNotThereOrTwice) {
  TemporaryFolder folder;
  put(folder / "x", "x");
  EXPECT_ERROR(kIo, (folder / "gone") + ": No such file", write_manifest(folder.path(), {"x", "gone"}));
  EXPECT_ERROR(kValue, "\"x\" is listed twice", write_manifest(folder.path(), {"x", "x"}));
  EXPECT_ERROR(kValue, "other than manifest.json", write_manifest(folder.path(), {"manifest.json"}));
  EXPECT_ERROR(kValue, "`about` needs to be an object", write_manifest(folder.path(), {"x"}, Json(3)));
  EXPECT_EQ(folder.names(), std::set<std::string>{"x"});
}

TEST(WriteManifest, AFailedWriteLeavesTheFolderInvalid) {
  TemporaryFolder folder;
  put(folder / "x", "x");
  const FileFault fault(FileStep::kWrite, 1, ENOSPC);
  EXPECT_ERROR(kIo, "No space left", write_manifest(folder.path(), {"x"}));
  EXPECT_EQ(folder.names(), std::set<std::string>{"x"});
  EXPECT_FALSE(verify_manifest(folder.path()));
}

}  // namespace
}  // namespace qkv::io
