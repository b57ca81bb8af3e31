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

/// Writes a safetensors file, atomically, with a SHA-256 of all that it holds.
///
/// `model` is any text that tells the model whose keys and values these are from all others, best
/// io::sha256_of_file() of its weights: load_caches() wants the same again. Errors: kValue: no model; those
/// of KvCache::save() and io::write_safetensors().
void save_caches(const std::string& path, const std::string& model, std::span<const NamedCache> caches);
/// Into caches of the same shapes; either all of them are restored or none. Reads the file twice. Errors name
/// the path: kIo; kFormat: no safetensors file, no saved cache, one of another version or model, one that was
/// damaged, a tensor missing or left over, whatever KvCache::restore() refuses; kValue: no model, a pool with
/// too few pages for all of them.
void load_caches(const std::string& path, const std::string& model, std::span<const NamedCache> caches);

}  // namespace qkv
