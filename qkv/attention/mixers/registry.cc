#include "qkv/attention/mixers.h"
#include "qkv/base/nearest.h"

namespace qkv {

MixerPtr make_mixer(std::string_view name, const HeadSizes& heads, const RandomKey& key) {
  check_known("mixer", name, mixer_names(), "mix");
  if (name == "performer") return performer(heads, 0, key);
  if (name == "retention") return retention();
  if (name == "gla") return gated_linear_attention();
  return linear_attention();
}

const std::vector<std::string_view>& mixer_names() {
  static const std::vector<std::string_view> names = {"linear", "performer", "retention", "gla"};
  return names;
}

}  // namespace qkv
