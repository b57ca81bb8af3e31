#pragma once
// All parameters of a model, in the order they were made, under the names they have in its files.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "qkv/autograd/parameter.h"
#include "qkv/base/philox.h"

namespace qkv {

/// Gives the value of a parameter from elsewhere, a file say: f32, of exactly this shape. It throws where it
/// has none, so no memory is taken for a model that its file does not hold.
using ParameterReader = std::function<Tensor(const std::string& name, const Shape& shape)>;

/// Where values come from: a seed for fresh ones, or a reader of saved ones. And whether the model will only
/// run: weights of products are then packed one by one as they come, and no second copy stays.
struct ParameterStart {
  ParameterStart(uint64_t s, std::optional<Precision> only_runs = {}) : seed(s), running(only_runs) {}
  ParameterStart(ParameterReader r, std::optional<Precision> only_runs = {})
      : read(std::move(r)), running(only_runs) {}
  uint64_t seed = 0;
  ParameterReader read;  // null: fresh values
  std::optional<Precision> running;
};

/// Makes and owns parameters. Fresh values are a function of (seed, name) alone, so adding a layer does not
/// change the others' start.
class ParameterSet {
 public:
  /// dtype of values: f32, or f64 for gradient checks (fresh ones only).
  explicit ParameterSet(ParameterStart start, DType dtype = DType::kF32)
      : start_(std::move(start)), dtype_(dtype) {}

  /// Uniform in +-gain * sqrt(6 / (rows + columns)): Glorot and Bengio 2010, eq. 16.
  ParameterPtr xavier_uniform(const std::string& name, const Shape& shape, double gain = 1);
  ParameterPtr normal(const std::string& name, const Shape& shape, double standard_deviation);
  ParameterPtr constant(const std::string& name, const Shape& shape, double value);
  /// Values one after the other, row-major.
  ParameterPtr from(const std::string& name, const Shape& shape, const std::vector<double>& values);
  /// Says of a weight of this set that products alone read it: in a model that only runs it is packed now.
  ParameterPtr for_products(ParameterPtr weight) const;
  /// The same of weights that the same rows are multiplied with: their stack (Parameter::stack).
  ParameterPtr for_products(const std::vector<ParameterPtr>& weights) const;
  /// Takes a parameter made elsewhere into the set. Error kInternal: the name is taken.
  ParameterPtr add(ParameterPtr parameter);

  /// All products with these parameters in 8-bit integers from here on: for running.
  void run_in_int8() const;

  const std::vector<ParameterPtr>& all() const { return all_; }
  ParameterPtr find(const std::string& name) const;  // null if there is none
  int64_t numel() const;
  DType dtype() const { return dtype_; }

 private:
  Tensor value_of(const std::string& name, const Shape& shape,
                  const std::function<double(RandomStream&)>& next) const;
  ParameterPtr draw(const std::string& name, const Shape& shape,
                    const std::function<double(RandomStream&)>& next);

  ParameterStart start_;
  DType dtype_;
  std::vector<ParameterPtr> all_;
};

}  // namespace qkv
