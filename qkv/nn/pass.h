#pragma once
// What one forward pass carries besides its activations.

#include "qkv/base/dtype.h"
#include "qkv/base/philox.h"

namespace qkv {

/// dtype: that of activations. While training, dropout is on, and each dropout site takes the next random
/// stream of the step; sites are met in the same order every time, so a step's masks depend on (seed, step)
/// alone.
class Pass {
 public:
  static Pass running(DType dtype) { return Pass(dtype, false, {}); }
  static Pass training(DType dtype, uint64_t seed, uint32_t step) {
    return Pass(dtype, true, {.seed = seed, .stream = 0, .step = step});
  }

  /// Layers of models keep their inputs alone, and run again in backward (autograd/recompute.h).
  Pass with_gradient_checkpointing(bool on = true) const {
    Pass pass = *this;
    pass.gradient_checkpointing_ = on;
    return pass;
  }

  DType dtype() const { return dtype_; }
  bool gradient_checkpointing() const { return gradient_checkpointing_; }
  bool is_training() const { return training_; }
  /// p while training, else 0.
  double rate(double p) const { return training_ ? p : 0; }
  /// A fresh key for one dropout site.
  RandomKey next_key() {
    ++key_.stream;
    return key_;
  }

 private:
  Pass(DType dtype, bool training, RandomKey key) : dtype_(dtype), training_(training), key_(key) {}
  DType dtype_;
  bool training_, gradient_checkpointing_ = false;
  RandomKey key_;
};

}  // namespace qkv
