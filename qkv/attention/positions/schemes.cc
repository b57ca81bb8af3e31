// rope.h and relative.h as what a layer asks of positions.

#include <optional>
#include <utility>

#include "qkv/attention/positions.h"

namespace qkv {
namespace {

class RopePositions final : public Positions {
 public:
  RopePositions(const HeadSizes& heads, const RopeOptions& options)
      : heads_(heads), rope_(heads.d_k, options) {}
  Var queries(const Var& q, const Segments& at) const override { return rope_(q, at, heads_.n_heads); }
  Var keys(const Var& k, const Segments& at) const override { return rope_(k, at, heads_.kv_heads()); }

 private:
  HeadSizes heads_;
  Rope rope_;
};

class ShawPositions final : public Positions {
 public:
  ShawPositions(ShawRelativeKeys keys, std::optional<ShawRelativeValues> values)
      : keys_(std::move(keys)), values_(std::move(values)) {}
  void add_to(AttentionOptions& options, const Var& q, int64_t /*max_kv_len*/) const override {
    options.relative_keys = keys_(q.dtype());
    if (values_) options.relative_values = (*values_)(q.dtype());
  }

 private:
  ShawRelativeKeys keys_;
  std::optional<ShawRelativeValues> values_;
};

class XlPositions final : public Positions {
 public:
  explicit XlPositions(TransformerXlPositions positions) : positions_(std::move(positions)) {}
  Var queries(const Var& q, const Segments& /*at*/) const override { return positions_.content_queries(q); }
  void add_to(AttentionOptions& options, const Var& q, int64_t max_kv_len) const override {
    options.relative_keys = positions_(q, max_kv_len);
  }

 private:
  TransformerXlPositions positions_;
};

}  // namespace

PositionsPtr rope_positions(const HeadSizes& heads, const RopeOptions& options) {
  return std::make_shared<RopePositions>(heads, options);
}

PositionsPtr shaw_positions(ParameterSet& set, const std::string& prefix, const HeadSizes& heads,
                            int64_t max_distance, bool values) {
  ShawRelativeKeys keys(set, prefix, heads, max_distance);
  std::optional<ShawRelativeValues> added;
  if (values) added.emplace(set, prefix, heads, max_distance);
  return std::make_shared<ShawPositions>(std::move(keys), std::move(added));
}

PositionsPtr transformer_xl_positions(ParameterSet& set, const std::string& prefix, const HeadSizes& heads,
                                      int64_t d_model) {
  return std::make_shared<XlPositions>(TransformerXlPositions(set, prefix, heads, d_model));
}

}  // namespace qkv
