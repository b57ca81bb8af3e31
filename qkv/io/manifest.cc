#include "qkv/io/manifest.h"

#include <fmt/format.h>

#include <filesystem>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/io/atomic_file.h"
#include "qkv/io/file.h"
#include "qkv/io/sha256.h"

namespace qkv::io {
namespace {

constexpr const char* kName = "manifest.json";
constexpr const char* kFormatName = "qkv-manifest";

std::string inside(const std::string& dir, const std::string& file) {
  return (std::filesystem::path(dir) / file).string();
}

}  // namespace

bool is_plain_file_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.front() != '-' && name.size() <= 255 &&
         name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

void write_manifest(const std::string& dir, const std::vector<std::string>& files, const Json& about) {
  QKV_CHECK(about.is_object(), kValue, "manifest of {}: `about` needs to be an object", escape(dir, 4096));
  Json listed = Json::object();
  for (const auto& file : files) {
    QKV_CHECK(is_plain_file_name(file) && file != kName, kValue,
              "manifest of {}: needs plain file names other than {}, got {}", escape(dir, 4096), kName,
              quote(file));
    QKV_CHECK(!listed.contains(file), kValue, "manifest of {}: {} is listed twice", escape(dir, 4096),
              quote(file));
    const std::string path = inside(dir, file);
    listed[file] = {{"bytes", file_size(path)}, {"sha256", sha256_of_file(path)}};
  }
  const Json manifest = {{"format", kFormatName}, {"version", 1}, {"about", about}, {"files", listed}};
  write_file_atomically(inside(dir, kName), dump_json(manifest, 2) + "\n");
  // The folder itself may be new: its own name has to survive as well.
  sync_folder(inside(dir, ".."));
}

ManifestCheck verify_manifest(const std::string& dir) {
  ManifestCheck check;
  try {
    const std::string path = inside(dir, kName);
    (void)file_size(path);  // a pipe by that name would wait for its writer
    const Json manifest = read_json(path);
    const std::string format = get_string(manifest, "format", path);
    QKV_CHECK(format == kFormatName, kFormat, "{}: \"format\": needs \"{}\", got {}", path, kFormatName,
              quote(format));
    get_int(manifest, "version", 1, 1, path);
    check.about = get_object(manifest, "about", path);
    for (const auto& [file, entry] : get_object(manifest, "files", path).items()) {
      QKV_CHECK(is_plain_file_name(file), kFormat, "{}: needs plain file names, got {}", path, quote(file));
      const std::string place = path + ": " + quote(file);
      const int64_t bytes = get_int(entry, "bytes", 0, INT64_MAX, place);
      const std::string hash = get_string(entry, "sha256", place);
      const std::string listed = inside(dir, file);
      const int64_t found = file_size(listed);
      QKV_CHECK(found == bytes, kFormat, "{}: needs {} bytes, has {}; it was damaged after it was saved",
                escape(listed, 4096), bytes, found);
      QKV_CHECK(sha256_of_file(listed) == hash, kFormat,
                "{}: its SHA-256 differs from the manifest's; it was damaged after it was saved",
                escape(listed, 4096));
      check.files.push_back(file);
    }
    check.ok = true;
  } catch (const Error& error) {
    check.reason = error.what();
    check.files.clear();
  }
  return check;
}

}  // namespace qkv::io
