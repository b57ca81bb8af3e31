#include "qkv/attention/heads/talking_heads.h"

#include <vector>

namespace qkv {

TalkingHeads talking_heads(ParameterSet& set, const std::string& prefix, const HeadSizes& heads) {
  const int64_t n = heads.n_heads;
  std::vector<double> identity(static_cast<size_t>(n * n));
  for (int64_t h = 0; h < n; ++h) identity[static_cast<size_t>(h * n + h)] = 1;
  return {.scores = set.from(prefix + ".pre_softmax_weight", {n, n}, identity),
          .weights = set.from(prefix + ".post_softmax_weight", {n, n}, identity)};
}

}  // namespace qkv
