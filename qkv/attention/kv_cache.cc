#include "qkv/attention/kv_cache.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "qkv/attention/caches/row_store.h"
#include "qkv/base/checked.h"
#include "qkv/base/parallel.h"
#include "qkv/base/quote.h"

namespace qkv {
namespace {

static_assert(std::endian::native == std::endian::little, "saved caches are little-endian");

std::string dtype_name(const RowFormat& format) {
  if (format.stored == Stored::kInt8) return "I8";
  if (format.stored == Stored::kBF16 || format.shape.dtype == DType::kBF16) return "BF16";
  return format.shape.dtype == DType::kF64 ? "F64" : "F32";
}

// A row's parts as saved: what, where in the row, bytes, and the tensor's sizes after the rows.
struct Part {
  std::string name, dtype;
  int64_t at = 0, bytes = 0;
  std::vector<int64_t> sizes;
};
std::vector<Part> parts_of(const RowFormat& f) {
  const CacheShape& s = f.shape;
  std::vector<Part> parts{
      {"k", dtype_name(f), 0, f.v_at, {s.n_kv_heads, s.width}},
      {"v", dtype_name(f), f.v_at, s.v_width() * f.element, {s.n_kv_heads, s.d_v}},
  };
  const int64_t scales = s.n_kv_heads * static_cast<int64_t>(sizeof(float));
  if (f.stored == Stored::kInt8) {
    parts.push_back({"k_scales", "F32", f.k_scales_at, scales, {s.n_kv_heads}});
    parts.push_back({"v_scales", "F32", f.v_scales_at, scales, {s.n_kv_heads}});
  }
  return parts;
}

const CacheTensor& find(std::span<const CacheTensor> tensors, const std::string& name) {
  const auto it =
      std::find_if(tensors.begin(), tensors.end(), [&](const CacheTensor& t) { return t.name == name; });
  QKV_CHECK(it != tensors.end(), kFormat, "kv cache: there is no tensor '{}' to restore", name);
  return *it;
}

// Without n * bytes, which a damaged file may make overflow.
bool holds_rows(const CacheTensor& t, int64_t n, int64_t bytes) {
  const int64_t size = static_cast<int64_t>(t.data.size());
  return bytes == 0 ? size == 0 : size % bytes == 0 && size / bytes == n;
}

std::string str(const std::vector<int64_t>& sizes) {
  std::string text = "[";
  for (const int64_t n : sizes) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  return text + "]";
}

std::vector<int64_t> lengths_in(std::span<const CacheTensor> tensors) {
  const CacheTensor& t = find(tensors, "lengths");
  QKV_CHECK(t.dtype == "I64" && t.shape.size() == 1 && t.shape[0] >= 0 &&
                holds_rows(t, t.shape[0], sizeof(int64_t)),
            kFormat, "kv cache: 'lengths' is {} {} of {} bytes, needs to be I64 [n_sequences]",
            escape(t.dtype, 64), str(t.shape), t.data.size());
  std::vector<int64_t> lengths(static_cast<size_t>(t.shape[0]));
  if (!lengths.empty()) std::memcpy(lengths.data(), t.data.data(), t.data.size());
  return lengths;
}

constexpr int64_t kUsualSinks = 4;  // Xiao et al., table 2: fewer lose, more hardly gain

const char* name_of(CacheLayout layout) {
  switch (layout) {
    case CacheLayout::kPaged:
      return "paged";
    case CacheLayout::kSliding:
      return "sliding";
    case CacheLayout::kContiguous:
      break;
  }
  return "contiguous";
}

void check_layout(const KvCacheOptions& o) {
  const auto belongs = [&](const char* option, bool given, CacheLayout layout) {
    QKV_CHECK(!given || o.layout == layout, kValue, "kv cache: {} is for a {} cache; this one is {}", option,
              name_of(layout), name_of(o.layout));
  };
  belongs("pool", o.pool != nullptr, CacheLayout::kPaged);
  belongs("n_sink", o.n_sink.has_value(), CacheLayout::kSliding);
  belongs("window", o.window != 0, CacheLayout::kSliding);
  belongs("rope", o.rope != nullptr, CacheLayout::kSliding);
}

std::unique_ptr<RowStore> make_store(const RowFormat& format, int64_t n, const KvCacheOptions& o) {
  switch (o.layout) {
    case CacheLayout::kPaged:
      return paged_store(format, n, o.pool);
    case CacheLayout::kSliding:
      return sliding_store(format, n, o.n_sink.value_or(kUsualSinks), o.window, o.rope);
    case CacheLayout::kContiguous:
      break;
  }
  return contiguous_store(format, n);
}

}  // namespace

KvCache::KvCache() : KvCache(0, 0, 0, DType::kF32) {}
KvCache::KvCache(KvCache&&) noexcept = default;
KvCache& KvCache::operator=(KvCache&&) noexcept = default;
KvCache::~KvCache() = default;

KvCache::KvCache(int64_t n_sequences, int64_t k_width, int64_t v_width, DType dtype)
    : KvCache(n_sequences, CacheShape{.width = k_width, .d_v = v_width, .dtype = dtype}) {}

KvCache::KvCache(int64_t n_sequences, const CacheShape& shape, const KvCacheOptions& options)
    : format_(shape, options.stored) {
  constexpr int64_t kMostSequences = 1 << 20;
  QKV_CHECK(n_sequences >= 0 && n_sequences <= kMostSequences, kValue,
            "kv cache: {} sequences, needs 0 to {}", n_sequences, kMostSequences);
  check_layout(options);
  store_ = make_store(format_, n_sequences, options);
}

int64_t KvCache::size() const { return store_->size(); }
int64_t KvCache::length(int64_t sequence) const {
  check_sequence(sequence);
  return store_->length(sequence);
}
int64_t KvCache::bytes() const { return store_->bytes(); }

void KvCache::append(const Segments& rows, const Tensor& k, const Tensor& v) {
  const CacheShape& shape = format_.shape;
  QKV_CHECK(rows.size() == size(), kShape, "kv cache: {} sequences, rows for {}", size(), rows.size());
  QKV_CHECK(k.rank() == 2 && v.rank() == 2, kShape,
            "kv cache: keys {} and values {} need to be matrices, [n_tokens, width]", k.shape().str(),
            v.shape().str());
  QKV_CHECK(k.dtype() == shape.dtype && v.dtype() == shape.dtype, kDtype,
            "kv cache: holds {}, got keys of {} and values of {}", name(shape.dtype), name(k.dtype()),
            name(v.dtype()));
  QKV_CHECK(k.size(1) == shape.k_width() && v.size(1) == shape.v_width() && k.size(0) == rows.n_tokens() &&
                v.size(0) == rows.n_tokens(),
            kShape, "kv cache: keys {} and values {} do not fit [{}, {}] and [{}, {}]", k.shape().str(),
            v.shape().str(), rows.n_tokens(), shape.k_width(), rows.n_tokens(), shape.v_width());
  const auto in_rows = [](const Tensor& t) { return t.stride(1) == 1 ? t : t.contiguous(); };
  const Tensor k_rows = in_rows(k), v_rows = in_rows(v);
  for (int64_t s = 0; s < size(); ++s) store_->check_append(rows.length(s));
  int64_t reserved = 0;
  try {
    for (; reserved < size(); ++reserved) store_->reserve(reserved, rows.length(reserved));
  } catch (...) {
    for (int64_t s = 0; s <= reserved; ++s) store_->truncate(s, length(s));  // gives unused pages back
    throw;
  }
  const int64_t k_bytes = k_rows.stride(0) * size_of(shape.dtype),
                v_bytes = v_rows.stride(0) * size_of(shape.dtype);
  parallel_items(
      size(),
      [&](int64_t s) {
        for (int64_t i = rows.begin(s); i < rows.begin(s) + rows.length(s); ++i)
          store_->push(s, k_rows.bytes() + i * k_bytes, v_rows.bytes() + i * v_bytes);
      },
      rows.n_tokens() * format_.row_bytes);
}

void KvCache::select(std::span<const int32_t> parents) {
  for (int32_t parent : parents)
    QKV_CHECK(parent >= 0 && parent < size(), kValue, "kv cache: parent {} of {} sequences", parent, size());
  store_->select(parents);
}

void KvCache::check_sequence(int64_t sequence) const {
  QKV_CHECK(sequence >= 0 && sequence < size(), kValue, "kv cache: sequence {} of {}", sequence, size());
}

void KvCache::truncate(int64_t sequence, int64_t length) {
  check_sequence(sequence);
  QKV_CHECK(length >= 0 && length <= store_->length(sequence), kValue,
            "kv cache: sequence {} has {} rows, cannot be cut to {}", sequence, store_->length(sequence),
            length);
  store_->truncate(sequence, length);
}

std::vector<KeyValueSpan> KvCache::spans() const {
  std::vector<KeyValueSpan> out;
  out.reserve(static_cast<size_t>(size()));
  for (int64_t s = 0; s < size(); ++s) out.push_back(store_->span(s));
  return out;
}

std::vector<CacheTensor> KvCache::save() const {
  QKV_CHECK(!store_->incomplete(), kUnsupported,
            "kv cache: a sliding cache that has let rows go cannot be saved; save before its window is full");
  CacheTensor lengths{.name = "lengths", .dtype = "I64", .shape = {size()}, .data = {}};
  int64_t n = 0;
  for (int64_t s = 0; s < size(); ++s) {
    const auto bytes = std::bit_cast<std::array<std::byte, sizeof(int64_t)>>(length(s));
    lengths.data.insert(lengths.data.end(), bytes.begin(), bytes.end());
    n += length(s);
  }
  std::vector<CacheTensor> tensors{std::move(lengths)};
  for (const Part& part : parts_of(format_)) {
    CacheTensor t{.name = part.name, .dtype = part.dtype, .shape = {n}, .data = {}};
    t.shape.insert(t.shape.end(), part.sizes.begin(), part.sizes.end());
    t.data.reserve(static_cast<size_t>(n * part.bytes));
    for (int64_t s = 0; s < size(); ++s)
      for (int64_t i = 0; i < length(s); ++i) {
        const std::byte* from = store_->row(s, i) + part.at;
        t.data.insert(t.data.end(), from, from + part.bytes);
      }
    tensors.push_back(std::move(t));
  }
  return tensors;
}

std::function<void()> KvCache::prepare_restore(std::span<const CacheTensor> tensors) {
  const std::vector<int64_t> lengths = lengths_in(tensors);
  const std::vector<Part> parts = parts_of(format_);
  std::vector<const CacheTensor*> found;
  const int64_t n = find(tensors, "k").shape.empty() ? -1 : find(tensors, "k").shape[0];
  int64_t left = n;
  for (const int64_t length : lengths) {
    QKV_CHECK(length >= 0 && length <= left, kFormat,
              "kv cache: 'lengths' do not add up to the {} rows of 'k'", n);
    left -= length;
  }
  QKV_CHECK(left == 0, kFormat, "kv cache: 'lengths' do not add up to the {} rows of 'k'", n);
  for (const Part& part : parts) {
    const CacheTensor& t = find(tensors, part.name);
    std::vector<int64_t> shape{n};
    shape.insert(shape.end(), part.sizes.begin(), part.sizes.end());
    QKV_CHECK(t.dtype == part.dtype && t.shape == shape && holds_rows(t, n, part.bytes), kFormat,
              "kv cache: '{}' is {} {} of {} bytes, this cache needs {} {}", part.name, escape(t.dtype, 64),
              str(t.shape), t.data.size(), part.dtype, str(shape));
    found.push_back(&t);
    if (!part.name.ends_with("_scales")) continue;
    for (size_t i = 0; i < t.data.size(); i += sizeof(float)) {
      float scale = 0;
      std::memcpy(&scale, t.data.data() + i, sizeof(scale));
      QKV_CHECK(!(scale < 0), kFormat, "kv cache: '{}' has a negative scale", part.name);
    }
  }
  QKV_CHECK(tensors.size() == parts.size() + 1, kFormat, "kv cache: {} tensors to restore, this cache has {}",
            tensors.size(), parts.size() + 1);

  std::shared_ptr<RowStore> next = store_->successor(lengths);
  return [this, next, lengths, parts, found,
          row = std::vector<std::byte>(static_cast<size_t>(format_.row_bytes))]() mutable {
    store_ = next;  // the old one goes: its pages are written now
    int64_t from = 0;
    for (size_t s = 0; s < lengths.size(); ++s)
      for (int64_t i = 0; i < lengths[s]; ++i, ++from) {
        for (size_t p = 0; p < parts.size(); ++p)
          std::copy_n(found[p]->data.data() + from * parts[p].bytes, parts[p].bytes,
                      row.data() + parts[p].at);
        store_->push_stored(static_cast<int64_t>(s), row.data());
      }
  };
}

}  // namespace qkv
