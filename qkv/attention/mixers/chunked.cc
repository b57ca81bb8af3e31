// The chunked form, forward: Yang et al. 2024 (arXiv:2312.06635), section 4, for every kind of decay, with or
// without a normaliser. Within a chunk keys reach queries by scores, as in attention; from chunk to chunk by
// the state.

#include "qkv/attention/mixers/chunk.h"

namespace qkv::recurrence {
namespace {

template <class T>
class Forward {
 public:
  using A = accumulator_t<T>;

  Forward(const Problem<T>& p, const Result<T>& result, int64_t b, int64_t kv_head)
      : p_(p),
        result_(result),
        b_(b),
        kv_head_(kv_head),
        scratch_(Scratch::fresh()),
        decays_(p, kv_head, scratch_),
        s_(scratch_.take<A>(kChunk * kChunk)),
        o_(scratch_.take<A>(kChunk * p.d_v())),
        weights_(scratch_.take<T>(kChunk * kChunk)),
        decayed_(scratch_.take<T>(kChunk * p.width)),
        flipped_(scratch_.take<T>(kChunk * p.width)),
        z_(scratch_.take<T>(p.width)) {
    A* const kept = p.state(b, kv_head);
    older_ = kept != nullptr;
    state_ = State<T>(p, kept ? kept : scratch_.take<A>(p.state_size()));
    if (!kept) state_.clear();
  }

  void causal() {
    const int64_t length = p_.keys->length(b_), begin = p_.keys->begin(b_);
    for (int64_t c = 0; c < length; c += kChunk) {
      const Scratch::Frame frame(scratch_);
      const int64_t row = begin + c, rows = std::min(kChunk, length - c);
      const T* k = p_.key(row, kv_head_);
      decays_.look(row, rows);
      const RightOperand<T> values = values_of(row, rows);
      const void* k_flipped =
          p_.by_feature() ? nullptr
                          : paths::transposed_operand(*p_.kernels, k, rows, p_.width, p_.k_stride, scratch_);
      const void* state = older_ ? packed_state() : nullptr;
      for (int64_t h = first_head(); h < end_head(); ++h) {
        const T* q = p_.query(row, h);
        A sum[kChunk] = {};
        if (older_) from_state(rows, q, state, sum);
        chunk_scores(p_, decays_, rows, q, k, k_flipped, s_, scratch_);
        p_.kernels->mixers.weigh({.rows = rows,
                                  .cols = rows,
                                  .s = s_,
                                  .weight = decays_.weights(),
                                  .stride = kChunk,
                                  .p = weights_,
                                  .p_stride = kChunk,
                                  .sum = sum});
        paths::multiply(*p_.kernels, rows, weights_, kChunk, values, o_, p_.d_v(), /*accumulate=*/older_);
        store(row, rows, h, sum);
        flops += 2 * rows * rows * (p_.width + p_.d_v());
      }
      if (c + kChunk < length || !p_.states.empty()) absorb(row, rows, values);
    }
  }

  /// Every query sees every key: all keys go into the state, then every query reads it.
  void everything() {
    for (int64_t c = 0; c < p_.keys->length(b_); c += kChunk) {
      const Scratch::Frame frame(scratch_);
      const int64_t row = p_.keys->begin(b_) + c, rows = std::min(kChunk, p_.keys->length(b_) - c);
      absorb(row, rows, values_of(row, rows));
    }
    const void* state = packed_state();
    for (int64_t h = first_head(); h < end_head(); ++h)
      for (int64_t c = 0; c < p_.queries->length(b_); c += kChunk) {
        const int64_t row = p_.queries->begin(b_) + c, rows = std::min(kChunk, p_.queries->length(b_) - c);
        A sum[kChunk] = {};
        from_state(rows, p_.query(row, h), state, sum);
        store(row, rows, h, sum);
      }
  }

  int64_t flops = 0;

 private:
  int64_t first_head() const { return kv_head_ * p_.heads.group(); }
  int64_t end_head() const { return first_head() + p_.heads.group(); }

  RightOperand<T> values_of(int64_t row, int64_t rows) const {
    return right_operand(*p_.kernels, p_.value(row, kv_head_), rows, p_.d_v(), p_.v_stride, scratch_);
  }

  const void* packed_state() const {
    if (p_.normalised) p_.kernels->rows.from_acc(p_.width, state_.z(), z_);
    return pack(p_.kernels->gemm, state_.s(), p_.width, p_.d_v(), p_.d_v(), 1, scratch_);
  }

  // o = Q S and sum = Q z, both decayed from the chunk's beginning on.
  void from_state(int64_t rows, const T* q, const void* state, A* sum) {
    int64_t ld = p_.q_stride;
    // A decay that all features share is put on the result instead, where nothing is rounded.
    if (p_.by_feature()) q = decays_.queries_from_begin(rows, q, ld, decayed_);
    paths::multiply(*p_.kernels, rows, p_.d_v(), p_.width, q, ld, state, o_, p_.d_v(), false);
    if (p_.normalised) p_.kernels->attention.row_dots(rows, p_.width, q, ld, z_, 0, sum);
    if (decays_.any() && !p_.by_feature()) {
      p_.exact->attention.scale_rows(rows, p_.d_v(), decays_.from_begin(), o_, p_.d_v());
      for (int64_t r = 0; r < rows; ++r) sum[r] *= decays_.from_begin()[r];
    }
    flops += 2 * rows * p_.width * p_.d_v();
  }

  void store(int64_t row, int64_t rows, int64_t h, const A* sum) {
    A factor[kChunk];
    for (int64_t r = 0; r < rows; ++r) factor[r] = p_.normalised ? reciprocal_or_zero(sum[r]) : p_.scale;
    const int64_t ld = p_.heads.n_heads * p_.d_v();
    p_.kernels->attention.store_rows(rows, p_.d_v(), factor, o_, p_.d_v(),
                                     result_.out + row * ld + h * p_.d_v(), ld);
    if (result_.factor) std::copy(factor, factor + rows, result_.factor + h * p_.queries->n_tokens() + row);
  }

  void absorb(int64_t row, int64_t rows, const RightOperand<T>& values) {
    int64_t ld = p_.k_stride;
    const T* k = decays_.keys_to_end(rows, p_.key(row, kv_head_), ld, decayed_);
    if (decays_.any()) state_.decay(decays_.total());
    state_.absorb(rows, k, ld, values, flipped_);
    older_ = true;
    flops += 2 * rows * p_.width * p_.d_v();
  }

  const Problem<T>& p_;
  const Result<T>& result_;
  const int64_t b_, kv_head_;
  Scratch& scratch_;
  ChunkDecays<T> decays_;
  State<T> state_;
  bool older_ = false;  // whether the state may hold anything
  A *s_, *o_;           // scores; outputs before they are divided
  T *weights_, *decayed_, *flipped_, *z_;
};

}  // namespace

template <class T>
int64_t chunked_forward(const Problem<T>& p, int64_t b, int64_t kv_head, const Result<T>& result) {
  Forward<T> forward(p, result, b, kv_head);
  if (p.causal)
    forward.causal();
  else
    forward.everything();
  return forward.flops;
}

template int64_t chunked_forward<double>(const Problem<double>&, int64_t, int64_t, const Result<double>&);
template int64_t chunked_forward<float>(const Problem<float>&, int64_t, int64_t, const Result<float>&);
template int64_t chunked_forward<bfloat16>(const Problem<bfloat16>&, int64_t, int64_t,
                                           const Result<bfloat16>&);

}  // namespace qkv::recurrence
