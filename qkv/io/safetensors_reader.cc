// Reading safetensors: the header as a stream of JSON events, so that its cost is that of the tensors named.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <numeric>
#include <tuple>
#include <utility>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/io/bounded_reader.h"
#include "qkv/io/json_events.h"
#include "qkv/io/safetensors.h"

namespace qkv::io {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxTensors = 1 << 18;  // the largest published models have some 10^5, over many files
constexpr size_t kMaxMetadata = 1 << 16;
constexpr size_t kMaxNameBytes = 65'535;
constexpr size_t kMaxRank = 8;

// What a header says, before it is compared with the data.
struct Header {
  struct Entry {
    SafetensorsTensor tensor;
    uint64_t begin = 0, end = 0;
  };
  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;
};

// {"__metadata__": {text: text}, name: {"dtype": text, "shape": [n...], "data_offsets": [begin, end]}}
class HeaderEvents : public JsonEvents {
 public:
  explicit HeaderEvents(Header& header) : header_(header) {}

  bool key(string_t& name) override {
    switch (in_) {
      case In::kFile:
        return file_key(name);
      case In::kMetadata:
        return metadata_key(name);
      default:
        return tensor_key(name);
    }
  }

  bool string(string_t& value) override {
    if (in_ == In::kMetadata) {
      header_.metadata[metadata_key_] = std::move(value);
      return true;
    }
    if (in_ != In::kTensor || field_ != kDtype) return unexpected("a text");
    if (safetensors_dtype_bits(value) == 0) return refuse_tensor("has the unknown dtype " + quote(value));
    entry_.tensor.dtype = std::move(value);
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (in_ == In::kShape) {
      if (entry_.tensor.shape.size() == kMaxRank)
        return refuse_tensor(fmt::format("has more than {} dimensions", kMaxRank));
      if (value > static_cast<uint64_t>(INT64_MAX))
        return refuse_tensor(fmt::format("has a dimension of {}", value));
      entry_.tensor.shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (in_ != In::kOffsets) return unexpected("a number");
    if (n_offsets_ == 2) return refuse_tensor("has more than two data_offsets");
    (n_offsets_++ == 0 ? entry_.begin : entry_.end) = value;
    return true;
  }

  bool start_object(std::size_t) override {
    if (in_ == In::kStart) return go(In::kFile);
    if (in_ == In::kFileValue) return go(is_metadata_ ? In::kMetadata : In::kTensor);
    return unexpected("an object");
  }

  bool end_object() override {
    if (in_ == In::kFile) return go(In::kEnd);
    if (in_ == In::kTensor && !end_tensor()) return false;
    return go(In::kFile);
  }

  bool start_array(std::size_t) override {
    if (in_ == In::kTensor && field_ == kShape) return go(In::kShape);
    if (in_ == In::kTensor && field_ == kOffsets) return go(In::kOffsets);
    return unexpected("an array");
  }

  bool end_array() override {
    if (in_ == In::kOffsets && n_offsets_ != 2) return refuse_tensor("needs two data_offsets");
    return go(In::kTensor);
  }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("true or false"); }
  bool number_integer(number_integer_t value) override { return unexpected(fmt::format("{}", value)); }
  bool number_float(number_float_t, const string_t& text) override {
    return unexpected("the number " + escape(text, 40) + ", which is not written as an integer");
  }

 private:
  enum class In { kStart, kFile, kFileValue, kMetadata, kTensor, kShape, kOffsets, kEnd };
  enum Field { kNone = 0, kDtype = 1, kShape = 2, kOffsets = 4, kAll = 7 };

  bool go(In in) {
    in_ = in;
    return true;
  }

  bool file_key(std::string& name) {
    is_metadata_ = name == "__metadata__";
    if (is_metadata_) {
      if (std::exchange(seen_metadata_, true)) return refuse("__metadata__ is repeated");
    } else {
      if (name.size() > kMaxNameBytes) return refuse(fmt::format("a tensor's name of {} bytes", name.size()));
      if (header_.entries.size() == kMaxTensors)
        return refuse(fmt::format("more than {} tensors", kMaxTensors));
      entry_ = {};
      entry_.tensor.name = std::move(name);
      seen_fields_ = n_offsets_ = 0;
    }
    return go(In::kFileValue);
  }

  bool metadata_key(const std::string& name) {
    if (header_.metadata.size() == kMaxMetadata)
      return refuse(fmt::format("more than {} texts in __metadata__", kMaxMetadata));
    metadata_key_ = name;
    if (!header_.metadata.emplace(name, "").second) return refuse("__metadata__ repeats " + quote(name));
    return true;
  }

  bool tensor_key(std::string_view name) {
    field_ = name == "dtype" ? kDtype : name == "shape" ? kShape : name == "data_offsets" ? kOffsets : kNone;
    if (field_ == kNone) return refuse_tensor("has the unknown field " + quote(name));
    if ((seen_fields_ & field_) != 0) return refuse_tensor(fmt::format("repeats {}", name));
    seen_fields_ |= field_;
    return true;
  }

  bool end_tensor() {
    if ((seen_fields_ & kDtype) == 0) return refuse_tensor("has no dtype");
    if ((seen_fields_ & kShape) == 0) return refuse_tensor("has no shape");
    if ((seen_fields_ & kOffsets) == 0) return refuse_tensor("has no data_offsets");
    header_.entries.push_back(std::move(entry_));
    return true;
  }

  bool refuse_tensor(const std::string& problem) {
    return refuse(fmt::format("tensor {} {}", quote(entry_.tensor.name), problem));
  }

  bool unexpected(const std::string& got) {
    switch (in_) {
      case In::kStart:
        return refuse("the header needs to be an object, is " + got);
      case In::kMetadata:
        return refuse(fmt::format("__metadata__ {} needs a text, got {}", quote(metadata_key_), got));
      case In::kFileValue:
        return is_metadata_ ? refuse("__metadata__ needs an object, got " + got)
                            : refuse_tensor("needs an object, got " + got);
      case In::kShape:
        return refuse_tensor("needs non-negative integers as its shape, got " + got);
      case In::kOffsets:
        return refuse_tensor("needs non-negative integers as data_offsets, got " + got);
      default:
        return refuse_tensor(fmt::format("needs {}, got {}",
                                         field_ == kDtype   ? "a text as dtype"
                                         : field_ == kShape ? "an array as shape"
                                                            : "an array as data_offsets",
                                         got));
    }
  }

  Header& header_;
  In in_ = In::kStart;
  bool is_metadata_ = false, seen_metadata_ = false;
  std::string metadata_key_;
  Header::Entry entry_;  // the tensor being read
  Field field_ = kNone;
  int seen_fields_ = 0, n_offsets_ = 0;
};

// What else people find under the name of a weights file; "" where nothing is recognised. Asked only once a
// file has been refused: N = 640 begins with the bytes 80 02 that begin a pickle.
std::string what_it_is_instead(std::span<const std::byte> bytes) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()),
                              std::min<size_t>(bytes.size(), 512));
  std::string lower(head);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  const size_t text_start = std::min(lower.find_first_not_of(" \t\r\n"), lower.size());
  const std::string_view text = std::string_view(lower).substr(text_start);

  if (head.empty()) return "the file is empty; fetch or save it again";
  if (text.starts_with("<!doctype") || text.starts_with("<html") || text.starts_with("<?xml"))
    return "it is a web page, not weights: the download gave an error page; fetch the file itself";
  if (head.starts_with("version https://git-lfs"))
    return "it is a git-lfs pointer, not weights; run `git lfs pull` where it came from";
  if (head.starts_with("PK\x03\x04"))
    return "it is a zip archive, as PyTorch's pickled .bin and .pt files are, and pickles can run code; "
           "convert "
           "it to safetensors";
  if (head.size() > 1 && head[0] == '\x80' && head[1] >= 2 && head[1] <= 5)
    return "it is a Python pickle, which can run code; convert it to safetensors";
  if (head.starts_with("GGUF")) return "it is a GGUF file";
  if (head.starts_with("\x1f\x8b")) return "it is gzip-compressed; unpack it first";
  if (text.starts_with("{")) return "it is a JSON text, not weights";
  return "";
}

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::string& path) {
  SafetensorsFile out;
  out.where_ = path;
  out.file_ = MappedFile(path);
  out.parse(out.file_.bytes());
  return out;
}

SafetensorsFile SafetensorsFile::view(std::span<const std::byte> bytes, std::string where) {
  SafetensorsFile out;
  out.where_ = std::move(where);
  out.parse(bytes);
  return out;
}

void SafetensorsFile::parse(std::span<const std::byte> bytes) {
  const std::string where = escape(where_, 4096);
  const auto fail = [&](const std::string& problem) {
    throw_error(ErrorCode::kFormat, "{}: not a valid safetensors file: {}", where, problem);
  };
  const auto fail_or_recognise = [&](const std::string& problem) {
    const std::string instead = what_it_is_instead(bytes);
    fail(instead.empty() ? problem : instead);
  };

  // The length, the header.
  BoundedReader reader(bytes, where_);
  if (bytes.size() < 8) fail_or_recognise(fmt::format("needs at least 8 bytes, has {}", bytes.size()));
  const uint64_t header_bytes = reader.u64("header length");
  if (header_bytes > kMaxHeaderBytes)
    fail_or_recognise(
        fmt::format("needs a header of at most {} bytes, the file says {}", kMaxHeaderBytes, header_bytes));
  if (header_bytes > static_cast<uint64_t>(reader.left()))
    fail_or_recognise(fmt::format(
        "a header of {} bytes does not fit a file of {}; it was cut short: fetch or save it again",
        header_bytes, bytes.size()));
  std::string_view text = reader.text(header_bytes, "header");
  const std::span<const std::byte> data = bytes.subspan(8 + static_cast<size_t>(header_bytes));
  if (!text.starts_with('{')) fail_or_recognise("the header does not begin with '{'");
  text = text.substr(0, text.find_last_not_of(' ') + 1);
  if (text.back() != '}')
    fail("the header is followed by something other than spaces, or its object is not closed");

  Header header;
  HeaderEvents events(header);
  parse_json_events(text, where_ + ": safetensors header", {.max_depth = 3}, events);

  // The data: sorted by offset, each tensor begins where the one before ended, the last ends with the file.
  auto& entries = header.entries;
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.tensor.name) < std::tie(b.begin, b.end, b.tensor.name);
  });
  uint64_t covered = 0;
  for (auto& entry : entries) {
    SafetensorsTensor& tensor = entry.tensor;
    const uint64_t begin = entry.begin, end = entry.end;
    const auto fail_tensor = [&](const std::string& problem) {
      fail(fmt::format("tensor {}: {}", quote(tensor.name), problem));
    };
    if (end < begin) fail_tensor(fmt::format("its data end at {}, before their begin at {}", end, begin));
    const auto needed = safetensors_bytes(tensor.dtype, tensor.shape);
    const std::string shape = fmt::format("shape [{}] of {}", fmt::join(tensor.shape, ", "), tensor.dtype);
    if (!needed) fail_tensor(shape + " overflows or is no whole number of bytes");
    if (static_cast<uint64_t>(*needed) != end - begin)
      fail_tensor(fmt::format("{} takes {} bytes, data_offsets [{}, {}] give {}", shape, *needed, begin, end,
                              end - begin));
    if (begin != covered)
      fail_tensor(fmt::format(
          "its data begin at {}, {} {}", begin,
          begin < covered ? "inside the tensor before, which ends at" : "which leaves a gap after the byte",
          covered));
    if (end > data.size())
      fail_tensor(
          fmt::format("its data end at {}, the file's at {}; it was cut short: fetch or save it again", end,
                      data.size()));
    tensor.data = data.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    covered = end;
  }
  if (covered != data.size()) fail(fmt::format("{} bytes follow the last tensor", data.size() - covered));

  tensors_.reserve(entries.size());
  for (auto& entry : entries) tensors_.push_back(std::move(entry.tensor));
  metadata_ = std::move(header.metadata);
  by_name_.resize(tensors_.size());
  std::iota(by_name_.begin(), by_name_.end(), 0);
  const auto name_of = [&](int32_t index) -> const std::string& {
    return tensors_[static_cast<size_t>(index)].name;
  };
  std::sort(by_name_.begin(), by_name_.end(), [&](int32_t a, int32_t b) { return name_of(a) < name_of(b); });
  const auto twin = std::adjacent_find(by_name_.begin(), by_name_.end(),
                                       [&](int32_t a, int32_t b) { return name_of(a) == name_of(b); });
  if (twin != by_name_.end()) fail("the tensor " + quote(name_of(*twin)) + " is there twice");
}

}  // namespace qkv::io
