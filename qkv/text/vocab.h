#pragma once
// Pieces and their ids.

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "qkv/io/json.h"

namespace qkv::text {

/// A set of pieces, each with an id of its own. Ids are any numbers in 0..2^31-1; they are never used to size
/// memory. Const use is thread-safe.
class Vocab {
 public:
  Vocab() = default;
  Vocab(Vocab&&) = default;
  Vocab& operator=(Vocab&&) = default;

  /// From {"piece": id, ...}. Error kFormat: an id that is no integer in range, or that two pieces share.
  static Vocab from_json(const io::Json& json, const std::string& where);
  io::Json to_json() const;

  /// Error kFormat where the piece or the id is already there.
  void add(std::string_view piece, int64_t id, const std::string& where);

  std::optional<int32_t> id_of(std::string_view piece) const {
    const auto it = ids_.find(piece);
    if (it == ids_.end()) return std::nullopt;
    return it->second;
  }
  /// nullptr where no piece has this id.
  const std::string* piece(int32_t id) const {
    const auto it = pieces_.find(id);
    return it == pieces_.end() ? nullptr : it->second;
  }
  int64_t size() const { return static_cast<int64_t>(ids_.size()); }
  int64_t max_id() const { return max_id_; }  // -1 when empty

 private:
  std::deque<std::string> storage_;  // never moves its elements
  std::unordered_map<std::string_view, int32_t> ids_;
  std::unordered_map<int32_t, const std::string*> pieces_;
  int64_t max_id_ = -1;
};

}  // namespace qkv::text
