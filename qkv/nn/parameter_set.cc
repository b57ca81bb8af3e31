#include "qkv/nn/parameter_set.h"

#include <cmath>

#include "qkv/base/philox.h"

namespace qkv {
namespace {

// Vectors are added, not multiplied; of tables, the output layer alone multiplies.
void run_in_int8(Parameter& parameter) {
  if (parameter.shape().rank() == 2 && !parameter.runs_in_int8()) parameter.run_in_int8();
}

// FNV-1a: a fixed, documented hash, so that a name gives the same random stream in every build.
uint32_t hash_of(const std::string& name) {
  uint32_t h = 2166136261u;
  for (unsigned char c : name) h = (h ^ c) * 16777619u;
  return h;
}

constexpr uint32_t kInitialisation =
    0x1217;  // the `step` of initialisation streams; training steps count from 0 under other streams

}  // namespace

Tensor ParameterSet::value_of(const std::string& name, const Shape& shape,
                              const std::function<double(RandomStream&)>& next) const {
  if (start_.read) {
    const Tensor value = start_.read(name, shape);
    QKV_CHECK(value.shape() == shape && value.dtype() == dtype_, kInternal,
              "parameter {}: read as {}, not {}", name, value.shape().str(), shape.str());
    return value;
  }
  RandomStream random({.seed = start_.seed, .stream = hash_of(name), .step = kInitialisation});
  std::vector<double> values(static_cast<size_t>(shape.numel()));
  for (double& x : values) x = next(random);
  return Tensor::from(shape, values, dtype_);
}

ParameterPtr ParameterSet::draw(const std::string& name, const Shape& shape,
                                const std::function<double(RandomStream&)>& next) {
  ParameterPtr parameter = add(std::make_shared<Parameter>(name, value_of(name, shape, next)));
  parameter->set_decays(true);
  return parameter;
}

ParameterPtr ParameterSet::xavier_uniform(const std::string& name, const Shape& shape, double gain) {
  QKV_CHECK(shape.rank() == 2, kShape, "{}: Xavier initialisation is for matrices, got {}", name,
            shape.str());
  const double bound = gain * std::sqrt(6.0 / static_cast<double>(shape[0] + shape[1]));
  return draw(name, shape, [bound](RandomStream& random) { return (2 * random.uniform() - 1) * bound; });
}

ParameterPtr ParameterSet::normal(const std::string& name, const Shape& shape, double standard_deviation) {
  return draw(name, shape,
              [standard_deviation](RandomStream& random) { return random.normal() * standard_deviation; });
}

ParameterPtr ParameterSet::constant(const std::string& name, const Shape& shape, double value) {
  return add(
      std::make_shared<Parameter>(name, value_of(name, shape, [value](RandomStream&) { return value; })));
}

ParameterPtr ParameterSet::from(const std::string& name, const Shape& shape,
                                const std::vector<double>& values) {
  size_t at = 0;
  return add(std::make_shared<Parameter>(
      name, value_of(name, shape, [&](RandomStream&) { return values.at(at++); })));
}

ParameterPtr ParameterSet::add(ParameterPtr parameter) {
  QKV_CHECK(find(parameter->name()) == nullptr, kInternal, "parameter {} is made twice", parameter->name());
  if (start_.running && start_.running->int8) qkv::run_in_int8(*parameter);
  all_.push_back(parameter);
  return parameter;
}

ParameterPtr ParameterSet::for_products(ParameterPtr weight) const {
  weight->set_only_multiplies(true);
  if (start_.running) weight->keep_packed(*start_.running);
  return weight;
}

ParameterPtr ParameterSet::for_products(const std::vector<ParameterPtr>& weights) const {
  for (const ParameterPtr& weight : weights) weight->set_only_multiplies(true);
  return for_products(Parameter::stack(weights));
}

void ParameterSet::run_in_int8() const {
  for (const ParameterPtr& p : all_) qkv::run_in_int8(*p);
}

ParameterPtr ParameterSet::find(const std::string& name) const {
  for (const ParameterPtr& p : all_)
    if (p->name() == name) return p;
  return nullptr;
}

int64_t ParameterSet::numel() const {
  int64_t n = 0;
  for (const ParameterPtr& p : all_) n += p->shape().numel();
  return n;
}

}  // namespace qkv
