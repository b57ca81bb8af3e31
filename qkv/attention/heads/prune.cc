#include "qkv/attention/heads/prune.h"

#include <algorithm>
#include <set>

namespace qkv {
namespace {

// The query heads that stay, and the key/value heads that they read.
struct Kept {
  std::vector<int64_t> heads, kv_heads;
};

Kept kept_heads(const MultiHeadConfig& c, const std::vector<int64_t>& pruned) {
  const std::set<int64_t> gone(pruned.begin(), pruned.end());
  for (int64_t h : gone)
    QKV_CHECK(h >= 0 && h < c.n_heads, kValue, "prune_heads: head {} of {}", h, c.n_heads);
  Kept kept;
  const int64_t group = c.n_heads / c.n_kv_heads;
  int64_t size = 0, of = 0;  // of the groups that stay: how many of the first one's heads, and its number
  for (int64_t g = 0; g < c.n_kv_heads; ++g) {
    const size_t before = kept.heads.size();
    for (int64_t h = g * group; h < (g + 1) * group; ++h)
      if (!gone.contains(h)) kept.heads.push_back(h);
    const int64_t left = static_cast<int64_t>(kept.heads.size() - before);
    if (left == 0) continue;
    if (kept.kv_heads.empty()) size = left, of = g;
    QKV_CHECK(
        left == size, kValue,
        "prune_heads: {} query heads of key/value head {} would stay, but {} of {}; groups need to be of one "
        "size: remove whole groups, or as many heads of each",
        size, of, left, g);
    kept.kv_heads.push_back(g);
  }
  QKV_CHECK(!kept.heads.empty(), kValue, "prune_heads: all {} heads of the layer; one needs to stay",
            c.n_heads);
  return kept;
}

// The slices of `axis` that belong to `kept` of n heads.
Tensor pick(const Tensor& x, int axis, int64_t n, const std::vector<int64_t>& kept) {
  const int64_t width = x.size(axis) / n;
  std::vector<int64_t> sizes(x.shape().sizes().begin(), x.shape().sizes().end());
  sizes[static_cast<size_t>(axis)] = static_cast<int64_t>(kept.size()) * width;
  const Tensor out = Tensor::empty(Shape(sizes), x.dtype());
  for (size_t i = 0; i < kept.size(); ++i)
    out.slice(axis, static_cast<int64_t>(i) * width, static_cast<int64_t>(i + 1) * width)
        .copy_from(x.slice(axis, kept[i] * width, (kept[i] + 1) * width));
  return out;
}

}  // namespace

PrunedHeads prune_heads(const ParameterSet& set, const std::string& name, const MultiHeadConfig& config,
                        const std::vector<int64_t>& heads) {
  for (std::string_view word : {"alibi", "talking_heads"}) {
    const size_t at = config.attention.find(word);
    QKV_CHECK(at == std::string::npos || (at >= 8 && config.attention.substr(at - 8, 8) == "learned_"),
              kUnsupported, "prune_heads: under {} what a head does depends on the heads beside it{}", word,
              word == "alibi" ? "; learned_alibi keeps each head's slope" : "");
  }
  const Kept kept = kept_heads(config, heads);
  PrunedHeads pruned{.config = config, .tensors = {}};
  pruned.config.n_heads = static_cast<int64_t>(kept.heads.size());
  pruned.config.n_kv_heads = static_cast<int64_t>(kept.kv_heads.size());

  // A layer of the new size says which tensors shrink, and along which axis: so this knows no variant by
  // name.
  ParameterSet smaller(uint64_t{0}, set.dtype());
  const MultiHeadAttention layer(smaller, name, pruned.config);
  for (const ParameterPtr& p : smaller.all()) {
    const ParameterPtr whole = set.find(p->name());
    QKV_CHECK(whole, kValue, "prune_heads: the set has no {}", p->name());
    Tensor x = whole->value();
    const Shape& shape = p->value().shape();
    for (int axis = 0; axis < x.rank(); ++axis) {
      if (x.size(axis) == shape[axis]) continue;
      const bool by_head = x.size(axis) % config.n_heads == 0 &&
                           x.size(axis) / config.n_heads * pruned.config.n_heads == shape[axis];
      x = by_head ? pick(x, axis, config.n_heads, kept.heads)
                  : pick(x, axis, config.n_kv_heads, kept.kv_heads);
    }
    QKV_CHECK(x.shape() == shape, kInternal, "prune_heads: {} became {}, needs to be {}", p->name(),
              x.shape().str(), shape.str());
    pruned.tensors.emplace(p->name(), x.clone());
  }
  return pruned;
}

}  // namespace qkv
