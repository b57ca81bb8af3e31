#include "qkv/attention/probe.h"

#include <algorithm>

namespace qkv {

bool Probe::wants(const std::vector<int64_t>& list, int64_t value) {
  return list.empty() || std::find(list.begin(), list.end(), value) != list.end();
}

bool Probe::wants(std::string_view site, int64_t layer) const {
  return (sites.empty() || std::find(sites.begin(), sites.end(), site) != sites.end()) &&
         wants(layers, layer);
}

}  // namespace qkv
