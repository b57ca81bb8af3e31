#pragma once
// safetensors: named tensors in one file. 8 bytes N (u64, little-endian), N bytes of JSON, then the data.
//
//     {"__metadata__": {"format": "pt"},
//      "wte.weight": {"dtype": "F32", "shape": [512, 64], "data_offsets": [0, 131072]}}
//
// Format: https://github.com/huggingface/safetensors (README, safetensors/src/tensor.rs).

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/base/dtype.h"
#include "qkv/io/file.h"

namespace qkv::io {

/// A tensor in a file, or on its way into one.
struct SafetensorsTensor {
  std::string name;
  std::string dtype;                // "F32", "BF16", ...: see safetensors_dtype_bits
  std::vector<int64_t> shape;       // row-major; {} is a scalar, a 0 among them means no bytes
  std::span<const std::byte> data;  // not owned; in a file it may begin at any address, aligned or not
};

/// Bits of one element of a dtype of the format ("F32" 32, "F4" 4, ...), 0 where there is no such dtype.
int64_t safetensors_dtype_bits(std::string_view dtype);

/// The bytes a tensor of this dtype and shape takes: product(shape) x bits / 8, 0 where a dimension is 0.
/// nullopt where that is no whole number of bytes, the dtype is unknown, a dimension is negative, or the
/// product of the other dimensions overflows (so that no order of multiplying them can).
std::optional<int64_t> safetensors_bytes(std::string_view dtype, std::span<const int64_t> shape);

/// Between the format's names and ours; nullopt where qkv has no such type (F16, U8, ...).
std::string_view safetensors_dtype(DType dtype);
std::optional<DType> dtype_from_safetensors(std::string_view dtype);

/// Copies a tensor of dtype F64, F32, F16 or BF16 to float32, whatever its alignment.
/// Error kDtype for other dtypes, kShape where out.size() is not the number of elements.
void copy_to_f32(const SafetensorsTensor& tensor, std::span<float> out);

/// A safetensors file, mapped and completely validated before any tensor is given out.
///
/// Refused, each by name (Error kFormat): shorter than 8 bytes; N over 100,000,000 or past the end; a header
/// that does not begin with '{', is not strict JSON (see json.h), or is followed by more than spaces;
/// repeated names; __metadata__ other than strings; an unknown dtype; a shape of more than 8 dimensions or of
/// anything but non-negative integers (2.0 is none); sizes that overflow, are no whole bytes or differ from
/// the offsets; data with a gap, an overlap or a tail; over 2^18 tensors. A pickle, a web page or a git-lfs
/// pointer in place of weights is recognised.
///
/// Costs address space and the header's tables, never memory for the data. The spans live as long as this.
class SafetensorsFile {
 public:
  /// Error kIo (missing, ...) or kFormat; both name the path.
  static SafetensorsFile open(const std::string& path);

  /// The same checks on bytes in memory, which are not owned; `where` names them in errors.
  static SafetensorsFile view(std::span<const std::byte> bytes, std::string where);

  /// In the order of their data.
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& path() const { return where_; }

  /// By name, O(log n): null where there is none, or Error kFormat that names the file and the tensor.
  const SafetensorsTensor* find(std::string_view name) const;
  const SafetensorsTensor& at(std::string_view name) const;

 private:
  void parse(std::span<const std::byte> bytes);

  MappedFile file_;  // empty for view()
  std::string where_;
  std::vector<SafetensorsTensor> tensors_;
  std::vector<int32_t> by_name_;  // indices into tensors_, sorted by name
  std::map<std::string, std::string> metadata_;
};

/// Writes a file atomically (see atomic_file.h). Tensors lie widest alignment first, then by name, and the
/// header is padded with spaces to a multiple of 8, so every tensor is aligned to its element. Equal
/// arguments, in any order, give equal bytes.
/// Throws Error: kIo; kValue where a tensor's size does not match its dtype and shape, a name repeats or is
/// "__metadata__", or a name or metadata text is not UTF-8.
void write_safetensors(const std::string& path, std::span<const SafetensorsTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace qkv::io
