#include <cmath>
#include <cstdlib>
#include <utility>
#include <vector>

#include "qkv/attention/edits.h"
#include "qkv/attention/positions/distance_bias.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

std::vector<double> slopes_of(int64_t n_heads) {
  constexpr int64_t kMostHeads = 65536;
  QKV_CHECK(n_heads >= 1 && n_heads <= kMostHeads, kValue, "alibi: {} heads, needs 1 to {}", n_heads,
            kMostHeads);
  int64_t power = 1;
  while (2 * power <= n_heads) power *= 2;
  std::vector<double> slopes;
  for (int64_t h = 1; h <= power; ++h)
    slopes.push_back(std::exp2(-8.0 * static_cast<double>(h) / static_cast<double>(power)));
  for (int64_t h = 1; static_cast<int64_t>(slopes.size()) < n_heads; h += 2)
    slopes.push_back(std::exp2(-4.0 * static_cast<double>(h) / static_cast<double>(power)));
  return slopes;
}

class Alibi final : public DistanceBias<Alibi> {
 public:
  explicit Alibi(int64_t n_heads) : slopes_(slopes_of(n_heads)) {}
  template <class A>
  A bias(int64_t head, int64_t distance) const noexcept {
    return head < static_cast<int64_t>(slopes_.size())
               ? static_cast<A>(-slopes_[static_cast<size_t>(head)] * static_cast<double>(std::abs(distance)))
               : A(0);
  }

 private:
  std::vector<double> slopes_;
};

class LearnedAlibi final : public DistanceBias<LearnedAlibi> {
 public:
  explicit LearnedAlibi(ParameterPtr slopes) : slopes_(std::move(slopes)) {}
  bool passes_gradients() const override { return false; }
  bool backward_reads_scores() const override { return false; }
  ParameterPtr parameter() const override { return slopes_; }
  template <class A>
  A bias(int64_t head, int64_t distance) const noexcept {
    return -slopes_->value().data<A>()[head] * static_cast<A>(std::abs(distance));
  }
  template <class A>
  void add(int64_t distance, A db, A* gradient) const noexcept {
    *gradient -= db * static_cast<A>(std::abs(distance));
  }

 private:
  ParameterPtr slopes_;  // [n_heads, 1]
};

}  // namespace

EditPtr alibi(int64_t n_heads) { return std::make_shared<Alibi>(n_heads); }

EditPtr learned_alibi(ParameterSet& set, const std::string& prefix, const HeadSizes& heads) {
  return std::make_shared<LearnedAlibi>(
      set.from(prefix + ".slopes", {heads.n_heads, 1}, slopes_of(heads.n_heads)));
}

}  // namespace qkv
