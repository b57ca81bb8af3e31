#pragma once
// The gradients of one update.

#include "qkv/train/trainer.h"

namespace qkv {

/// Adds to the parameters' gradients that of the mean loss over the target tokens of batches first ..
/// first + count - 1 of the trainee's epoch, whose sums it returns. Of the options: dtype, seed,
/// gradient_checkpointing. micro_step keys each batch's dropout, and counts on.
LossSums accumulate_gradients(Trainee& trainee, int64_t first, int64_t count, const TrainOptions& options,
                              int64_t& micro_step);

}  // namespace qkv
