#include "qkv/models/kv_cache_files.h"

#include <fmt/core.h>

#include <vector>

#include "qkv/io/safetensors.h"

namespace qkv {

void save_caches(const std::string& path, std::span<const NamedCache> caches) {
  std::vector<CacheTensor> kept;
  for (const NamedCache& named : caches)
    for (CacheTensor& t : named.cache->save()) {
      t.name = named.name + "." + t.name;
      kept.push_back(std::move(t));
    }
  std::vector<io::SafetensorsTensor> tensors;
  for (const CacheTensor& t : kept)
    tensors.push_back({.name = t.name, .dtype = t.dtype, .shape = t.shape, .data = t.data});
  io::write_safetensors(path, tensors, {{"format", "qkv kv cache"}});
}

void load_caches(const std::string& path, std::span<const NamedCache> caches) {
  const io::SafetensorsFile file = io::SafetensorsFile::open(path);
  size_t used = 0;
  std::vector<std::vector<CacheTensor>> read, before;
  for (const NamedCache& named : caches) {
    std::vector<CacheTensor>& tensors = read.emplace_back();
    const std::string prefix = named.name + ".";
    for (const io::SafetensorsTensor& t : file.tensors())
      if (t.name.starts_with(prefix) && t.name.find('.', prefix.size()) == std::string::npos)
        tensors.push_back({.name = t.name.substr(prefix.size()),
                           .dtype = t.dtype,
                           .shape = t.shape,
                           .data = {t.data.begin(), t.data.end()}});
    used += tensors.size();
  }
  QKV_CHECK(used == file.tensors().size(), kFormat, "{}: holds {} tensors, {} belong to the caches asked for",
            path, file.tensors().size(), used);
  size_t done = 0;
  try {
    for (; done < caches.size(); ++done) {
      before.push_back(caches[done].cache->save());
      caches[done].cache->restore(read[done]);
    }
  } catch (const Error& e) {
    for (size_t i = 0; i < done; ++i) caches[i].cache->restore(before[i]);
    throw Error(e.code(), fmt::format("{}: {}: {}", path, caches[done].name, e.what()));
  }
}

}  // namespace qkv
