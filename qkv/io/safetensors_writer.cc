#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <tuple>

#include "qkv/base/checked.h"
#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/io/atomic_file.h"
#include "qkv/io/json.h"
#include "qkv/io/safetensors.h"

namespace qkv::io {
namespace {

// A JSON string; names and metadata come from callers and may hold anything.
std::string json_text(std::string_view text) {
  try {
    return Json(text).dump();
  } catch (const Json::exception&) {
    throw_error(ErrorCode::kValue, "safetensors: needs names and metadata in UTF-8, got {}", quote(text));
  }
}

void check(const SafetensorsTensor& tensor) {
  const std::string name = quote(tensor.name);
  QKV_CHECK(safetensors_dtype_bits(tensor.dtype) > 0, kValue, "safetensors: tensor {}: unknown dtype {}",
            name, quote(tensor.dtype));
  QKV_CHECK(tensor.name != "__metadata__", kValue, "safetensors: a tensor cannot be called __metadata__");
  QKV_CHECK(tensor.name.size() <= 65'535, kValue, "safetensors: tensor {}: name of {} bytes", name,
            tensor.name.size());
  QKV_CHECK(tensor.shape.size() <= 8, kValue, "safetensors: tensor {}: needs at most 8 dimensions, has {}",
            name, tensor.shape.size());
  const std::string shape = fmt::format("shape [{}] of {}", fmt::join(tensor.shape, ", "), tensor.dtype);
  const auto needed = safetensors_bytes(tensor.dtype, tensor.shape);
  QKV_CHECK(needed.has_value(), kValue,
            "safetensors: tensor {}: {} has a negative dimension, overflows or is no "
            "whole number of bytes",
            name, shape);
  QKV_CHECK(*needed == static_cast<int64_t>(tensor.data.size()), kValue,
            "safetensors: tensor {}: {} takes {} bytes, got {}", name, shape, *needed, tensor.data.size());
}

}  // namespace

void write_safetensors(const std::string& path, std::span<const SafetensorsTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const SafetensorsTensor*> order;
  for (const auto& tensor : tensors) {
    check(tensor);
    order.push_back(&tensor);
  }
  // Widest first: every tensor then begins at a multiple of its element's size without any gap.
  std::sort(order.begin(), order.end(), [](const SafetensorsTensor* a, const SafetensorsTensor* b) {
    return std::make_tuple(-safetensors_dtype_bits(a->dtype), std::string_view(a->name)) <
           std::make_tuple(-safetensors_dtype_bits(b->dtype), std::string_view(b->name));
  });

  std::vector<std::string_view> names;
  for (const auto* tensor : order) names.push_back(tensor->name);
  std::sort(names.begin(), names.end());
  const auto twin = std::adjacent_find(names.begin(), names.end());
  QKV_CHECK(twin == names.end(), kValue, "safetensors: the tensor {} is given twice", quote(*twin));

  std::vector<std::string> items;
  if (!metadata.empty()) {
    std::vector<std::string> pairs;
    for (const auto& [key, value] : metadata) pairs.push_back(json_text(key) + ":" + json_text(value));
    items.push_back(fmt::format("\"__metadata__\":{{{}}}", fmt::join(pairs, ",")));
  }
  size_t offset = 0;
  for (const auto* tensor : order) {
    const size_t end = offset + tensor->data.size();
    items.push_back(fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                                json_text(tensor->name), tensor->dtype, fmt::join(tensor->shape, ","), offset,
                                end));
    offset = end;
  }
  std::string header = fmt::format("{{{}}}", fmt::join(items, ","));
  header.resize(static_cast<size_t>(round_up(static_cast<int64_t>(header.size()), 8)), ' ');
  QKV_CHECK(header.size() <= 100'000'000, kValue,
            "safetensors: a header of {} bytes; the format allows 100,000,000", header.size());

  static_assert(std::endian::native == std::endian::little);
  const uint64_t header_bytes = header.size();
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(&header_bytes, 1)));
  file.write(header);
  for (const auto* tensor : order) file.write(tensor->data);
  file.commit();
}

}  // namespace qkv::io
