// Poolings by name, and what all of them check.

#include <algorithm>

#include "qkv/attention/pooling.h"
#include "qkv/base/nearest.h"

namespace qkv {
namespace {

template <bool bias>
PoolingPtr additive_pooling(ParameterSet& set, const std::string& name, const PoolingConfig& config) {
  return std::make_shared<AdditivePooling>(set, name, config, bias);
}
PoolingPtr class_token(ParameterSet& set, const std::string& name, const PoolingConfig& config) {
  return std::make_shared<ClassToken>(set, name, config);
}

struct Entry {
  std::string_view name;
  PoolingPtr (*make)(ParameterSet& set, const std::string& name, const PoolingConfig& config);
};

const Entry kPoolings[] = {
    {"additive", additive_pooling<true>},
    {"structured", additive_pooling<false>},
    {"pma", pma_pooling},
    {"class_token", class_token},
    {"first", first_pooling},
    {"last", last_pooling},
    {"mean", mean_pooling},
    {"max", max_pooling},
};

}  // namespace

Pooling::Pooling(std::string name, const PoolingConfig& c, bool many)
    : name_(std::move(name)),
      site_(c.site.empty() ? name_ : c.site),
      d_model_(c.d_model),
      n_vectors_(c.n_vectors) {
  QKV_CHECK(
      c.d_model > 0 && c.n_vectors > 0 && c.d_attention >= 0 && c.n_heads > 0 && c.d_ff >= 0, kValue,
      "pooling {}: d_model ({}), n_vectors ({}) and n_heads ({}) must be positive, d_attention ({}) and "
      "d_ff ({}) not negative",
      name_, c.d_model, c.n_vectors, c.n_heads, c.d_attention, c.d_ff);
  QKV_CHECK(many || c.n_vectors == 1, kValue,
            "pooling {}: n_vectors is {}, but this kind gives 1; additive, structured and pma give several",
            name_, c.n_vectors);
}

Var Pooling::operator()(Pass& pass, const Var& x, const Segments& rows, Probe* probe) const {
  QKV_CHECK(x.defined() && x.value().rank() == 2 && x.size(1) == d_model_, kShape,
            "pooling {}: takes rows of {}, got {}", name_, d_model_,
            x.defined() ? x.value().shape().str() : "nothing");
  QKV_CHECK(x.size(0) == rows.n_tokens(), kShape, "pooling {}: x has {} rows, the sequences have {}", name_,
            x.size(0), rows.n_tokens());
  return pool(pass, x, rows, probe);
}

const std::vector<std::string_view>& pooling_names() {
  static const std::vector<std::string_view> names = [] {
    std::vector<std::string_view> all;
    for (const Entry& e : kPoolings) all.push_back(e.name);
    return all;
  }();
  return names;
}

PoolingPtr make_pooling(std::string_view kind, ParameterSet& set, const std::string& name,
                        const PoolingConfig& config) {
  check_known("pooling", kind, pooling_names(), name);
  return std::find_if(std::begin(kPoolings), std::end(kPoolings),
                      [&](const Entry& e) { return e.name == kind; })
      ->make(set, name, config);
}

}  // namespace qkv
