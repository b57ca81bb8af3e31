#pragma once
// All parameters of a model, in the order they were made, under the names they have in its files.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "qkv/autograd/parameter.h"
#include "qkv/base/philox.h"

namespace qkv {

/// Makes and owns parameters. Starting values are a function of (seed, name) alone, so adding a layer does
/// not change the others' start.
class ParameterSet {
 public:
  /// Without a seed values start undefined, for whoever reads them from a file next. dtype: f32, or f64 for
  /// gradient checks.
  explicit ParameterSet(std::optional<uint64_t> seed, DType dtype = DType::kF32)
      : seed_(seed), dtype_(dtype) {}

  /// Uniform in +-sqrt(6 / (rows + columns)): Glorot and Bengio 2010, eq. 16.
  ParameterPtr xavier_uniform(const std::string& name, const Shape& shape);
  ParameterPtr normal(const std::string& name, const Shape& shape, double standard_deviation);
  ParameterPtr constant(const std::string& name, const Shape& shape, double value);
  /// Takes a parameter made elsewhere into the set. Error kInternal: the name is taken.
  ParameterPtr add(ParameterPtr parameter);

  const std::vector<ParameterPtr>& all() const { return all_; }
  ParameterPtr find(const std::string& name) const;  // null if there is none
  int64_t numel() const;
  DType dtype() const { return dtype_; }

 private:
  ParameterPtr draw(const std::string& name, const Shape& shape,
                    const std::function<double(RandomStream&)>& next);

  std::optional<uint64_t> seed_;
  DType dtype_;
  std::vector<ParameterPtr> all_;
};

}  // namespace qkv
