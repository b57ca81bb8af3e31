#pragma once
// A folder of files that is valid as a whole, or not at all: manifest.json, written last, lists every file
// with its size and SHA-256. Without it, or where a file differs, the folder does not count.
//
//     {"format": "qkv-manifest", "version": 1, "about": {...},
//      "files": {"model.safetensors": {"bytes": 123, "sha256": "..."}}}

#include <string>
#include <vector>

#include "qkv/io/json.h"

namespace qkv::io {

/// A name that stays in its folder: not empty, ".", "..", nor with '/', '\', NUL or a leading '-'.
bool is_plain_file_name(std::string_view name);

/// Hashes `files` (plain names in `dir`, already written durably) and writes dir/manifest.json atomically.
/// `about` is the caller's own object (a step, a date), given back by verify_manifest.
/// Throws Error kIo naming the file; kValue for a name that is not plain or repeats.
void write_manifest(const std::string& dir, const std::vector<std::string>& files,
                    const Json& about = Json::object());

struct ManifestCheck {
  bool ok = false;
  std::string reason;  // when not ok: what is wrong, with the file's name
  Json about = Json::object();
  std::vector<std::string> files;
  explicit operator bool() const { return ok; }
};

/// Reads every listed file once. Never throws for what is in the folder: a missing or broken manifest, a
/// missing, shorter, longer or altered file are the `reason`. Files that are not listed are ignored.
ManifestCheck verify_manifest(const std::string& dir);

}  // namespace qkv::io
