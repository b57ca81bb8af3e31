#include "qkv/models/kv_cache_files.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "qkv/base/quote.h"
#include "qkv/io/safetensors.h"
#include "qkv/io/sha256.h"

namespace qkv {
namespace {

constexpr const char* kFormatName = "qkv kv cache";
constexpr const char* kVersion = "1";

// Of names, dtypes, shapes and bytes, by name: where they lie in a file is its writer's choice.
std::string digest(std::vector<io::SafetensorsTensor> tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  io::Sha256 sha;
  for (const io::SafetensorsTensor& t : tensors) {
    sha.update(fmt::format("{} {} {} {}\n", t.name.size(), t.name, t.dtype, t.shape));
    sha.update(t.data);
  }
  return sha.hex();
}

std::string shown(const std::string& path) { return escape(path, 4096); }

void check_given(const char* operation, const std::string& model) {
  QKV_CHECK(!model.empty(), kValue,
            "{}: needs to know the model, whose keys and values mean nothing to another: a SHA-256 of its "
            "weights, say",
            operation);
}

void check_file(const io::SafetensorsFile& file, const std::string& model) {
  const std::string where = shown(file.path());
  const auto said = [&](const char* what) {
    const auto at = file.metadata().find(what);
    return at == file.metadata().end() ? std::string() : at->second;
  };
  QKV_CHECK(said("format") == kFormatName, kFormat,
            "{}: is no saved cache: its format is {}, needs to be \"{}\", as save_caches() writes it", where,
            quote(said("format")), kFormatName);
  QKV_CHECK(said("version") == kVersion, kFormat,
            "{}: is a cache of version {}, this program reads version {}; save it again with this program",
            where, quote(said("version")), kVersion);
  QKV_CHECK(
      said("model") == model, kFormat,
      "{}: was saved for the model {}, this is {}; a cache goes with its own model: read the text again",
      where, quote(said("model")), quote(model));
  QKV_CHECK(
      said("sha256") == digest(file.tensors()), kFormat,
      "{}: its SHA-256 differs from the one that it was saved with: it was damaged since; read the text "
      "again",
      where);
}

}  // namespace

void save_caches(const std::string& path, const std::string& model, std::span<const NamedCache> caches) {
  check_given("save_caches", model);
  std::vector<CacheTensor> kept;
  for (const NamedCache& named : caches)
    for (CacheTensor& t : named.cache->save()) {
      t.name = named.name + "." + t.name;
      kept.push_back(std::move(t));
    }
  std::vector<io::SafetensorsTensor> tensors;
  for (const CacheTensor& t : kept)
    tensors.push_back({.name = t.name, .dtype = t.dtype, .shape = t.shape, .data = t.data});
  io::write_safetensors(
      path, tensors,
      {{"format", kFormatName}, {"version", kVersion}, {"model", model}, {"sha256", digest(tensors)}});
}

void load_caches(const std::string& path, const std::string& model, std::span<const NamedCache> caches) {
  check_given("load_caches", model);
  const io::SafetensorsFile file = io::SafetensorsFile::open(path);
  check_file(file, model);
  size_t used = 0;
  std::vector<std::vector<CacheTensor>> read;
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
            shown(path), file.tensors().size(), used);
  std::vector<std::function<void()>> put;
  for (size_t i = 0; i < caches.size(); ++i) try {
      put.push_back(caches[i].cache->prepare_restore(read[i]));
    } catch (const Error& e) {
      throw Error(e.code(), fmt::format("{}: {}: {}", shown(path), escape(caches[i].name), e.what()));
    }
  for (const std::function<void()>& one : put) one();
}

}  // namespace qkv
