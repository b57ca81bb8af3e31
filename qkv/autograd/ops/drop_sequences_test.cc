#include "qkv/autograd/ops/drop_sequences.h"

#include <gtest/gtest.h>

#include <cmath>

#include "qkv/autograd/gradcheck.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

const Segments kSequences({3, 0, 1, 7, 2, 64, 5, 1, 1, 1});

TEST(DropSequences, ZeroesWholeSequencesAndScalesTheOthers) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const Tensor x = Tensor::full({kSequences.n_tokens(), 3}, dtype, 1);
    int64_t dropped = 0;
    for (uint32_t step = 0; step < 200; ++step) {
      const Tensor y = drop_sequences(Var(x), kSequences, 0.2, {.seed = 1, .step = step}).value();
      for (int64_t b = 0; b < kSequences.size(); ++b) {
        if (kSequences.length(b) == 0) continue;
        const double first = y.at({kSequences.begin(b), 0});
        EXPECT_TRUE(first == 0 || std::abs(first - 1.25) < 1e-6) << first;
        dropped += first == 0;
        for (double v : y.rows(kSequences.begin(b), kSequences.begin(b) + kSequences.length(b)).values())
          EXPECT_EQ(v, first);
      }
    }
    EXPECT_NEAR(static_cast<double>(dropped) / 1800, 0.2, 4 * std::sqrt(0.2 * 0.8 / 1800));
  }
}

TEST(DropSequences, ANaNInOneDroppedOrNotStaysThere) {
  const Tensor x = Tensor::full({kSequences.n_tokens(), 2}, DType::kF32, 1);
  x.rows(0, 3).fill(std::nan(""));
  bool was_dropped = false;
  for (uint32_t step = 0; step < 20; ++step) {
    const Tensor y = drop_sequences(Var(x), kSequences, 0.5, {.seed = 2, .step = step}).value();
    was_dropped |= y.at({0, 0}) == 0;
    for (double v : y.rows(3, kSequences.n_tokens()).values()) EXPECT_FALSE(std::isnan(v));
  }
  EXPECT_TRUE(was_dropped);
}

TEST(DropSequences, Gradients) {
  const auto f = [](const std::vector<Var>& in) {
    return drop_sequences(in[0], kSequences, 0.4, {.seed = 3});
  };
  EXPECT_EQ(gradcheck(f, {random_tensor({kSequences.n_tokens(), 2}, 1)}), "");
}

TEST(DropSequences, WhatDoesNotFitIsRefused) {
  const Var x(Tensor::zeros({4, 2}, DType::kF32));
  EXPECT_THROW(drop_sequences(x, kSequences, 0.1, {}), Error);
  EXPECT_THROW(drop_sequences(x, Segments({4}), 1, {}), Error);
}

}  // namespace
}  // namespace qkv
