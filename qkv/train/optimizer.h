#pragma once
// What turns gradients into weights: the seam that every optimizer implements, and their registry. Each one
// is a file of qkv/train/optimizers/ and a line in optimizer.cc; docs/optimizers.md compares them.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/autograd/parameter.h"

namespace qkv {

/// A tensor of f32 under the name that it has in checkpoints.
struct NamedTensor {
  std::string name;
  Tensor value;
};

/// An update rule with what it remembers of a set of parameters. State is f32, beside f32 masters. The same
/// gradients give the same bits whatever the number of threads: threads split elements, and sums run over
/// fixed pieces in order.
class Optimizer {
 public:
  virtual ~Optimizer() = default;

  /// sqrt of the sum of squares of all gradients, in double, in a fixed order. Not finite: do not step.
  double grad_norm() const;
  /// One update at learning rate `rate` from gradients whose norm is `norm`; then gradients are zero. Over
  /// clip_norm, every gradient is first scaled by clip_norm / norm (Pascanu et al. 2013, arXiv:1211.5063).
  void step(double rate, double norm);
  void zero_grad();

  const std::vector<ParameterPtr>& parameters() const { return parameters_; }
  /// All that the next step depends on besides weights and steps(): "<parameter>.<what>" each. Written into
  /// by whoever loads a checkpoint.
  const std::vector<NamedTensor>& state() const { return state_; }
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

 protected:
  /// clip_norm: at least 0; 0: never clip. Error kValue.
  Optimizer(std::vector<ParameterPtr> parameters, double clip_norm);

  struct Update {
    double rate;
    double grad_scale;  // takes part in every use of a gradient: clipping costs no pass of its own
    int64_t t;          // of this step, from 1
  };
  /// One trainable parameter's step: parameters()[i].
  virtual void update(size_t i, const Update& u) = 0;

  /// For constructors: a tensor of zeros of parameter i's state. Copies share memory.
  Tensor add_state(size_t i, const char* what, const Shape& shape);

 private:
  std::vector<ParameterPtr> parameters_;
  std::vector<NamedTensor> state_;
  double clip_norm_;
  int64_t steps_ = 0;
};

/// The values that a hyper-parameter may have.
enum class Range {
  kBelowOne /* [0, 1) */,
  kPositive,
  kNotNegative,
  kFlag /* 0, 1 */,
  kCount /* 1, 2, ... */
};

/// Error kValue naming the optimizer and the option.
void check_option(std::string_view optimizer, std::string_view option, double value, Range range);

/// Options are a struct for each optimizer, which names its fields once, in each(f): f(field, "name", range,
/// "meaning"). Checks, the registry and the command line all read that.
template <class Options>
void check_options(std::string_view optimizer, Options options) {
  options.each([&](auto& value, std::string_view name, Range range, std::string_view) {
    check_option(optimizer, name, static_cast<double>(value), range);
  });
}

/// An optimizer and what is changed of its options; what is not named keeps its default.
struct OptimizerChoice {
  std::string name = "adam";
  std::map<std::string, double> options;  // flags: 0 or 1
  double clip_norm = 0;                   // 0: never
};

/// Error kValue: an unknown name or option (with the nearest), an option that another optimizer has and this
/// one has not (0 passes: it is off here), a value out of its range.
std::unique_ptr<Optimizer> make_optimizer(const OptimizerChoice& choice,
                                          std::vector<ParameterPtr> parameters);

struct OptimizerOption {
  std::string_view name, meaning;
  Range range;
  double initial;
};
struct OptimizerKind {
  std::string_view name;
  double rate;  // a peak learning rate to begin with
  std::vector<OptimizerOption> options;
  std::function<std::unique_ptr<Optimizer>(std::vector<ParameterPtr>, const OptimizerChoice&)> make;
};
/// All there are.
const std::vector<OptimizerKind>& optimizers();
/// Error kValue with the nearest.
const OptimizerKind& optimizer_kind(std::string_view name);

}  // namespace qkv
