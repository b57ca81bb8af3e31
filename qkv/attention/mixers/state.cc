#include <limits>

#include "qkv/attention/caches/children.h"
#include "qkv/attention/mixers.h"

namespace qkv {

MixerState::MixerState(int64_t n_sequences, const MixerOptions& options, DType dtype) : dtype_(dtype) {
  const HeadSizes& heads = options.heads;
  const int64_t width = (options.mixer ? options.mixer : linear_attention())->width(heads);
  const DType sums = accumulator_dtype(dtype);
  QKV_CHECK(n_sequences >= 0 && heads.kv_heads() > 0 && width > 0, kValue,
            "mixer state: {} sequences of {} heads of {} features", n_sequences, heads.kv_heads(), width);
  for (int64_t b = 0; b < n_sequences; ++b)
    sequences_.push_back({.sums = Tensor::zeros({heads.kv_heads(), width * (heads.value_width() + 1)}, sums),
                          .shifts = Tensor::full({heads.kv_heads()}, sums, kNoShift)});
}

void MixerState::select(std::span<const int32_t> parents) {
  for (const int32_t parent : parents)
    QKV_CHECK(parent >= 0 && parent < size(), kValue, "mixer state: parent {} of {} sequences", parent,
              size());
  become_children(sequences_, parents, [](const Sequence& s) {
    return Sequence{.sums = s.sums.clone(), .shifts = s.shifts.clone()};
  });
}

int64_t MixerState::n_bytes() const {
  int64_t bytes = 0;
  for (const Sequence& s : sequences_) bytes += s.sums.n_bytes() + s.shifts.n_bytes();
  return bytes;
}

}  // namespace qkv
