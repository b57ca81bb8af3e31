#include "qkv/text/registry.h"

#include "qkv/text/models/model.h"

namespace qkv::text {

namespace {

constexpr Maker<Model> kMakers[] = {
    {"BPE", make_bpe},
};

}  // namespace

ModelPtr model_from_json(const io::Json& json, const std::string& where) {
  QKV_CHECK(json.is_object(), kFormat, "{}: needs an object, got {}", where, json.type_name());
  if (!json.contains("type") && json.contains("merges")) return make_bpe(json, where + ": BPE");
  return make_part<Model>(kMakers, json, where);
}

}  // namespace qkv::text
