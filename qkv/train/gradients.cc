#include "qkv/train/gradients.h"

namespace qkv {

LossSums accumulate_gradients(Trainee& trainee, int64_t first, int64_t count, const TrainOptions& options,
                              int64_t& micro_step) {
  int64_t tokens = 0;
  for (int64_t i = 0; i < count; ++i) tokens += trainee.target_tokens(first + i);
  LossSums sums;
  for (int64_t i = 0; i < count; ++i) {
    Pass pass = Pass::training(options.dtype, options.seed, static_cast<uint32_t>(micro_step++))
                    .with_gradient_checkpointing(options.gradient_checkpointing);
    const LossSums part = trainee.accumulate_gradients(first + i, pass, 1.0 / static_cast<double>(tokens));
    sums.loss += part.loss;
    sums.nll += part.nll;
    sums.n += part.n;
  }
  return sums;
}

}  // namespace qkv
