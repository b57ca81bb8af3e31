#include "qkv/attention/probe.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace qkv {

bool Probe::wants(const std::vector<int64_t>& list, int64_t value) {
  return list.empty() || std::find(list.begin(), list.end(), value) != list.end();
}

bool Probe::wants(std::string_view site, int64_t layer) const {
  return (sites.empty() || std::find(sites.begin(), sites.end(), site) != sites.end()) &&
         wants(layers, layer);
}

void Probe::finish(AttentionRow& row) const {
  std::vector<float>& w = row.attn_weights;
  row.entropy = 0;
  for (const float x : w)
    if (x != 0) row.entropy -= static_cast<double>(x) * std::log(static_cast<double>(x));
  if (top_k <= 0) return;
  row.keys.resize(w.size());
  std::iota(row.keys.begin(), row.keys.end(), 0);
  const size_t n = std::min(w.size(), static_cast<size_t>(top_k));
  // NaN would break the order: it counts as heavier than all.
  const auto weight = [&](int64_t j) {
    const float x = w[static_cast<size_t>(j)];
    return std::isnan(x) ? std::numeric_limits<float>::infinity() : x;
  };
  std::partial_sort(row.keys.begin(), row.keys.begin() + static_cast<std::ptrdiff_t>(n), row.keys.end(),
                    [&](int64_t a, int64_t b) {
                      const float x = weight(a), y = weight(b);
                      return x > y || (x == y && a < b);
                    });
  row.keys.resize(n);
  row.keys.shrink_to_fit();
  std::vector<float> heaviest;
  heaviest.reserve(n);
  for (const int64_t j : row.keys) heaviest.push_back(w[static_cast<size_t>(j)]);
  w = std::move(heaviest);
}

}  // namespace qkv
