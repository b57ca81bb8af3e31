#pragma once
// Caches in a file, so that a long prompt need not be read twice. See docs/formats.md.

#include <span>
#include <string>

#include "qkv/attention/kv_cache.h"

namespace qkv {

/// A cache and what its tensors are called in a file: <name>.k, <name>.v, ...
struct NamedCache {
  std::string name;
  KvCache* cache = nullptr;
};

/// Writes a safetensors file, atomically. Errors: those of KvCache::save() and io::write_safetensors().
void save_caches(const std::string& path, std::span<const NamedCache> caches);
/// Into caches of the same shapes; either all of them are restored or none. Errors name the path: kIo,
/// kFormat (no safetensors file, a tensor missing or left over, whatever KvCache::restore() refuses).
void load_caches(const std::string& path, std::span<const NamedCache> caches);

}  // namespace qkv
