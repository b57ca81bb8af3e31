#pragma once
// What sizes a model may have, and how one that does not fit is told.

#include <cstdint>
#include <string>
#include <utility>

#include "qkv/base/error.h"

namespace qkv {

constexpr int64_t kMaxVocab = int64_t{1} << 24, kMaxWidth = 65536, kMaxLayers = 512,
                  kMaxPositions = int64_t{1} << 20;

/// For the validate() of configs. Each throws Error kValue: "<where>: <field> is 0, needs to be 1 to 512".
class ConfigCheck {
 public:
  explicit ConfigCheck(std::string where) : where_(std::move(where)) {}

  void range(const char* field, int64_t value, int64_t min, int64_t max) const;
  void rate(const char* field, double value) const;                              // in [0, 1)
  void heads(int64_t d_model, int64_t n_heads, int64_t d_k, int64_t d_v) const;  // 0: d_model / n_heads
  /// The word (nn/positions.h) and the table that it makes.
  void positions(const std::string& word, int64_t max_len, int64_t d_model) const;

 private:
  std::string where_;
};

/// Calls check(), which throws Error kValue of what a file says, as kFormat.
template <class Check>
void check_file(Check&& check) {
  try {
    check();
  } catch (const Error& e) {
    throw Error(e.code() == ErrorCode::kValue ? ErrorCode::kFormat : e.code(), e.what());
  }
}

}  // namespace qkv
