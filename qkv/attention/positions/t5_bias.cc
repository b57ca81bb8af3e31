// Hugging Face's and the authors' code computes the logarithm in float32; distances at the borders of buckets
// follow it.

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "qkv/attention/edits.h"
#include "qkv/attention/positions/distance_bias.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

class T5Bias final : public DistanceBias<T5Bias> {
 public:
  T5Bias(ParameterPtr weight, const T5Buckets& buckets)
      : weight_(std::move(weight)), far_(buckets.max_distance) {
    for (int64_t d = -far_; d <= far_; ++d) bucket_.push_back(t5_bucket(d, buckets));
  }
  bool passes_gradients() const override { return false; }
  bool backward_reads_scores() const override { return false; }
  ParameterPtr parameter() const override { return weight_; }
  template <class A>
  A bias(int64_t head, int64_t distance) const noexcept {
    return weight_->value().data<A>()[head * weight_->value().size(1) + bucket(distance)];
  }
  template <class A>
  void add(int64_t distance, A db, A* gradient) const noexcept {
    gradient[bucket(distance)] += db;
  }

 private:
  int64_t bucket(int64_t distance) const noexcept {
    return bucket_[static_cast<size_t>(std::clamp(distance, -far_, far_) + far_)];
  }

  ParameterPtr weight_;          // [n_heads, n_buckets]
  int64_t far_;                  // from here on all distances share a bucket
  std::vector<int64_t> bucket_;  // of distances -far_ .. far_: a logarithm each would cost a fifth of a tile
};

}  // namespace

int64_t t5_bucket(int64_t distance, const T5Buckets& b) {
  int64_t n = b.n_buckets, first = 0;
  if (b.bidirectional) {
    n /= 2;
    if (distance > 0) first = n;
    distance = std::abs(distance);
  } else {
    distance = std::max<int64_t>(-distance, 0);
  }
  const int64_t exact = n / 2;
  if (distance < exact) return first + distance;
  const float far = std::log(static_cast<float>(distance) / static_cast<float>(exact)) /
                    std::log(static_cast<float>(b.max_distance) / static_cast<float>(exact));
  return first + std::min(n - 1, exact + static_cast<int64_t>(far * static_cast<float>(n - exact)));
}

EditPtr t5_bias(ParameterSet& set, const std::string& prefix, const HeadSizes& heads, const T5Buckets& b) {
  const int64_t one_way = b.bidirectional ? b.n_buckets / 2 : b.n_buckets;
  QKV_CHECK(one_way >= 2 && (!b.bidirectional || b.n_buckets % 2 == 0), kValue,
            "t5_bias: {} buckets; needs at least {}{}", b.n_buckets, b.bidirectional ? 4 : 2,
            b.bidirectional ? ", and an even number" : "");
  QKV_CHECK(b.max_distance > one_way / 2, kValue,
            "t5_bias: max_distance {} must be above {}, where buckets widen", b.max_distance, one_way / 2);
  return std::make_shared<T5Bias>(set.constant(prefix + ".weight", {heads.n_heads, b.n_buckets}, 0), b);
}

}  // namespace qkv
