// Poolings that take one row of a sequence: the first, the last, or a class token put there for it.

#include "qkv/attention/pooling.h"
#include "qkv/autograd/ops/elementwise.h"
#include "qkv/autograd/ops/rows.h"

namespace qkv {
namespace {

Var first_rows(const Var& x, const Segments& rows) {
  std::vector<int64_t> from;
  for (int64_t b = 0; b < rows.size(); ++b) from.push_back(rows.length(b) == 0 ? -1 : rows.begin(b));
  return take_rows({x}, from);
}

class First final : public Pooling {
 public:
  First(const std::string& name, const PoolingConfig& config) : Pooling(name, config) {}

 private:
  Var pool(Pass&, const Var& x, const Segments& rows, Probe*) const override { return first_rows(x, rows); }
};

class Last final : public Pooling {
 public:
  Last(const std::string& name, const PoolingConfig& config) : Pooling(name, config) {}

 private:
  Var pool(Pass&, const Var& x, const Segments& rows, Probe*) const override {
    std::vector<int64_t> from;
    for (int64_t b = 0; b < rows.size(); ++b)
      from.push_back(rows.length(b) == 0 ? -1 : rows.begin(b) + rows.length(b) - 1);
    return take_rows({x}, from);
  }
};

}  // namespace

PoolingPtr first_pooling(ParameterSet&, const std::string& name, const PoolingConfig& config) {
  return std::make_shared<First>(name, config);
}

PoolingPtr last_pooling(ParameterSet&, const std::string& name, const PoolingConfig& config) {
  return std::make_shared<Last>(name, config);
}

ClassToken::ClassToken(ParameterSet& set, const std::string& name, const PoolingConfig& c)
    : Pooling(name, c), token_(set.normal(name + ".token", {1, c.d_model}, 0.02)) {}  // BERT's start

PackedRows ClassToken::prepare(const Var& x, const Segments& rows) const {
  QKV_CHECK(x.size(0) == rows.n_tokens(), kShape, "class token: x has {} rows, the sequences have {}",
            x.size(0), rows.n_tokens());
  std::vector<int64_t> from, lengths;  // row 0 is the token, then come those of x
  for (int64_t b = 0; b < rows.size(); ++b) {
    QKV_CHECK(rows.past(b) == 0, kValue,
              "class token: sequence {} has {} tokens in a cache, and the class token comes before them", b,
              rows.past(b));
    const int64_t n = rows.length(b);
    lengths.push_back(n == 0 ? 0 : n + 1);
    if (n > 0) from.push_back(0);
    for (int64_t r = 0; r < n; ++r) from.push_back(1 + rows.begin(b) + r);
  }
  return {take_rows({value_of(token_, x.dtype()), x}, from), Segments(lengths)};
}

PackedRows ClassToken::without_token(const Var& x, const Segments& rows) {
  std::vector<int64_t> from, lengths;
  for (int64_t b = 0; b < rows.size(); ++b) {
    lengths.push_back(std::max<int64_t>(0, rows.length(b) - 1));
    for (int64_t r = 1; r < rows.length(b); ++r) from.push_back(rows.begin(b) + r);
  }
  return {take_rows({x}, from), Segments(lengths)};
}

Var ClassToken::pool(Pass&, const Var& x, const Segments& rows, Probe*) const { return first_rows(x, rows); }

}  // namespace qkv
