#include "qkv/text/vocab.h"

#include <algorithm>
#include <limits>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"

namespace qkv::text {

Vocab Vocab::from_json(const io::Json& json, const std::string& where) {
  Vocab out;
  out.ids_.reserve(json.size());
  out.pieces_.reserve(json.size());
  for (const auto& [piece, id] : json.items()) {
    // The number is looked at here and not by as_int, whose message would be made 100,000 times for nothing.
    QKV_CHECK(id.is_number_integer(), kFormat, "{}: the id of {} needs to be an integer, got {}", where,
              quote(piece), escape(io::dump_json(id)));
    QKV_CHECK(!id.is_number_unsigned() || id.get<uint64_t>() <= std::numeric_limits<int32_t>::max(), kFormat,
              "{}: the id of {}, {}, is not in 0..2147483647", where, quote(piece), id.get<uint64_t>());
    out.add(piece, id.get<int64_t>(), where);
  }
  return out;
}

io::Json Vocab::to_json() const {
  io::Json out = io::Json::object();
  for (const auto& [piece, id] : ids_) out[std::string(piece)] = id;
  return out;
}

void Vocab::add(std::string_view piece, int64_t id, const std::string& where) {
  QKV_CHECK(id >= 0 && id <= std::numeric_limits<int32_t>::max(), kFormat,
            "{}: the id of {}, {}, is not in 0..2147483647", where, quote(piece), id);
  QKV_CHECK(!ids_.contains(piece), kFormat, "{}: {} stands in the vocabulary twice", where, quote(piece));
  const auto [it, is_new] = pieces_.try_emplace(static_cast<int32_t>(id), nullptr);
  QKV_CHECK(is_new, kFormat, "{}: {} and {} share the id {}", where, quote(*it->second), quote(piece), id);
  storage_.emplace_back(piece);
  it->second = &storage_.back();
  ids_.emplace(storage_.back(), static_cast<int32_t>(id));
  max_id_ = std::max(max_id_, id);
}

}  // namespace qkv::text
