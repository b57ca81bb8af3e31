#include "qkv/models/config_check.h"

#include "qkv/base/error.h"
#include "qkv/nn/positions.h"

namespace qkv {
namespace {

constexpr int64_t kMaxPositionTable = int64_t{1} << 26;  // max_len x d_model: 256 MiB of f32

}  // namespace

void ConfigCheck::range(const char* field, int64_t value, int64_t min, int64_t max) const {
  QKV_CHECK(value >= min && value <= max, kValue, "{}: {} is {}, needs to be {} to {}", where_, field, value,
            min, max);
}

void ConfigCheck::rate(const char* field, double value) const {
  QKV_CHECK(value >= 0 && value < 1, kValue, "{}: {} is {}, needs to be at least 0 and below 1", where_,
            field, value);
}

void ConfigCheck::heads(int64_t d_model, int64_t n_heads, int64_t d_k, int64_t d_v) const {
  range("d_model", d_model, 1, kMaxWidth);
  range("n_heads", n_heads, 1, kMaxWidth);
  range("d_k", d_k, 0, kMaxWidth);
  range("d_v", d_v, 0, kMaxWidth);
  QKV_CHECK((d_k > 0 && d_v > 0) || d_model % n_heads == 0, kValue,
            "{}: n_heads ({}) does not divide d_model ({}); choose another, or give d_k and d_v", where_,
            n_heads, d_model);
}

void ConfigCheck::positions(const std::string& word, int64_t max_len, int64_t d_model) const {
  range("max_len", max_len, 2, kMaxPositions);
  QKV_CHECK(max_len * d_model <= kMaxPositionTable, kValue, "{}: max_len ({}) times d_model ({}) is over {}",
            where_, max_len, d_model, kMaxPositionTable);
  check_position_table(word, where_);
  QKV_CHECK(word != "sinusoidal" || d_model % 2 == 0, kValue,
            "{}: d_model ({}) is odd; sinusoidal positions take features in pairs", where_, d_model);
}

}  // namespace qkv
