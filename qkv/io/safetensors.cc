// The dtypes of the format, and what is done with tensors once they are read.
#include "qkv/io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"

namespace qkv::io {
namespace {

constexpr std::array<std::pair<std::string_view, int64_t>, 22> kDtypes = {{
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},   {"I8", 8},
    {"F8_E5M2", 8},     {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16}, {"U16", 16},
    {"F8_E4M3FNUZ", 8}, {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32}, {"F32", 32},
    {"F64", 64},        {"I64", 64},    {"U64", 64},    {"C64", 64},  // C64: two f32
}};

// IEEE half to float. (_Float16 would say this in one line, but clang 14 lacks it on most x86.)
float half_to_float(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t exponent = half >> 10 & 31u, fraction = half & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent > 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;  // zero or subnormal: exact
  return sign != 0 ? -magnitude : magnitude;
}

// memcpy, because a tensor may begin at any address.
template <class T, class Convert>
void copy(std::span<const std::byte> data, std::span<float> out, Convert convert) {
  for (size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, data.data() + i * sizeof(T), sizeof(T));
    out[i] = convert(value);
  }
}

}  // namespace

int64_t safetensors_dtype_bits(std::string_view dtype) {
  for (const auto& [known, bits] : kDtypes)
    if (known == dtype) return bits;
  return 0;
}

std::optional<int64_t> safetensors_bytes(std::string_view dtype, std::span<const int64_t> shape) {
  int64_t bits = safetensors_dtype_bits(dtype);
  bool empty = false;
  for (const int64_t size : shape) {
    if (size == 0)
      empty = true;
    else if (size < 0 || __builtin_mul_overflow(bits, size, &bits))
      return std::nullopt;
  }
  if (bits == 0 || (!empty && bits % 8 != 0)) return std::nullopt;
  if (empty) return 0;
  return bits / 8;
}

std::string_view safetensors_dtype(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "F64";
    case DType::kF32:
      return "F32";
    case DType::kBF16:
      return "BF16";
    case DType::kI32:
      return "I32";
  }
  throw_error(ErrorCode::kInternal, "safetensors: no name for dtype {}", static_cast<int>(dtype));
}

std::optional<DType> dtype_from_safetensors(std::string_view dtype) {
  for (const DType ours : {DType::kF64, DType::kF32, DType::kBF16, DType::kI32})
    if (safetensors_dtype(ours) == dtype) return ours;
  return std::nullopt;
}

void copy_to_f32(const SafetensorsTensor& tensor, std::span<float> out) {
  const int64_t bits = safetensors_dtype_bits(tensor.dtype);
  const bool floating =
      tensor.dtype == "F64" || tensor.dtype == "F32" || tensor.dtype == "F16" || tensor.dtype == "BF16";
  QKV_CHECK(floating, kDtype, "safetensors: tensor {}: needs F64, F32, F16 or BF16 to become float32, is {}",
            quote(tensor.name), quote(tensor.dtype));
  const size_t count = tensor.data.size() * 8 / static_cast<size_t>(bits);
  QKV_CHECK(count == out.size(), kShape, "safetensors: tensor {}: needs room for {} values, got room for {}",
            quote(tensor.name), count, out.size());
  if (count == 0) return;
  if (tensor.dtype == "F32")
    std::memcpy(out.data(), tensor.data.data(), tensor.data.size());
  else if (tensor.dtype == "F64")
    copy<double>(tensor.data, out, [](double value) { return static_cast<float>(value); });
  else if (tensor.dtype == "F16")
    copy<uint16_t>(tensor.data, out, half_to_float);
  else
    copy<uint16_t>(tensor.data, out,
                   [](uint16_t value) { return std::bit_cast<float>(uint32_t{value} << 16); });
}

const SafetensorsTensor* SafetensorsFile::find(std::string_view name) const {
  const auto place =
      std::lower_bound(by_name_.begin(), by_name_.end(), name, [&](int32_t index, std::string_view wanted) {
        return tensors_[static_cast<size_t>(index)].name < wanted;
      });
  if (place == by_name_.end()) return nullptr;
  const SafetensorsTensor& tensor = tensors_[static_cast<size_t>(*place)];
  return tensor.name == name ? &tensor : nullptr;
}

const SafetensorsTensor& SafetensorsFile::at(std::string_view name) const {
  const SafetensorsTensor* const tensor = find(name);
  QKV_CHECK(
      tensor != nullptr, kFormat, "{}: needs a tensor {}, has {} others{}", escape(where_, 4096), quote(name),
      tensors_.size(),
      tensors_.empty() ? "" : ", such as " + quote(tensors_.front().name) + "; is it another model's file?");
  return *tensor;
}

}  // namespace qkv::io
