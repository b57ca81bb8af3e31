#pragma once
// Gradients of what a batch's sequences share: parameters of rules, scores and normalizers, and relative
// rows.

#include <algorithm>
#include <functional>
#include <vector>

#include "qkv/attention/paths/problem.h"
#include "qkv/tensor/tensor.h"

namespace qkv::paths {

/// Gradients of numbers that all sequences share. Each sequence has a sum of its own, and these are added in
/// order: so no sum depends on the threads. Waves of sequences take turns in the memory.
template <class A>
class SharedSums {
 public:
  /// A wave is of at least four sequences, and of as many more as `floats` numbers (32 MiB in f32) hold.
  explicit SharedSums(int64_t floats = int64_t{1} << 23) : most_(floats) {}

  /// `numbers` [n_heads, size] of each sequence will be given to add.
  void want(HeadSums<A>& numbers, int64_t n_heads, int64_t size, std::function<void(const A*)> add) {
    numbers = {.sums = nullptr, .n_heads = n_heads, .size = size};
    wanted_.push_back({&numbers, {}, std::move(add)});
  }

  /// run() on all sequences of p, some at a time.
  template <class T, class Run>
  void gather(Problem<T>& p, Run&& run) {
    const std::vector<Sequence<T>> all = std::move(p.sequences);
    const int64_t n = static_cast<int64_t>(all.size());
    int64_t floats = 0;
    for (const Wanted& w : wanted_) floats += w.floats();
    const int64_t wave = std::clamp(most_ / std::max<int64_t>(1, floats), std::min<int64_t>(4, n), n);
    for (Wanted& w : wanted_) {
      w.memory = Tensor::empty({wave, w.floats()}, dtype_of<A>::value);
      w.numbers->sums = w.memory.template data<A>();
    }
    for (int64_t begin = 0; begin < n; begin += wave) {
      const int64_t end = std::min(begin + wave, n);
      p.sequences.assign(all.begin() + begin, all.begin() + end);
      for (Wanted& w : wanted_) std::fill_n(w.numbers->sums, wave * w.floats(), A(0));
      run();
      for (Wanted& w : wanted_)
        for (int64_t b = 0; b < end - begin; ++b) w.add(w.numbers->of(b, 0));
    }
  }

 private:
  struct Wanted {
    HeadSums<A>* numbers;
    Tensor memory;
    std::function<void(const A*)> add;
    int64_t floats() const { return numbers->n_heads * numbers->size; }
  };
  const int64_t most_;
  std::vector<Wanted> wanted_;
};

/// The gradient of vectors of distances, over sequences, and over heads where these share the vectors.
template <class T>
struct RowsGradient {
  using A = accumulator_t<T>;
  const Relative<T>& relative;
  int64_t width, n_heads;
  A factor;
  Shape shape;
  std::vector<A> sums = std::vector<A>(static_cast<size_t>(shape.numel()));

  /// one [n_heads, n_rows, width]
  void add(const A* one) {
    for (int64_t h = 0; h < n_heads; ++h)
      for (int64_t m = 0; m < relative.n_rows; ++m)
        for (int64_t d = 0; d < width; ++d)
          sums[static_cast<size_t>(m * relative.row_stride + h * relative.head_stride + d)] +=
              factor * *one++;
  }
  Tensor rounded() const {
    const Tensor gradient = Tensor::empty(shape, dtype_of<T>::value);
    for (size_t i = 0; i < sums.size(); ++i) gradient.data<T>()[i] = T(sums[i]);
    return gradient;
  }
};

}  // namespace qkv::paths
