// The recurrent form: what a running model does with a token. O(width d_v) a head, whatever came before.

#include "qkv/attention/mixers/chunk.h"

namespace qkv::recurrence {

template <class T>
int64_t recurrent_forward(const Problem<T>& p, int64_t b, int64_t kv_head, const Result<T>& result) {
  using A = accumulator_t<T>;
  const int64_t d_v = p.d_v(), group = p.heads.group(), length = p.keys->length(b);
  const State<T> state(p, p.state(b, kv_head));
  A* out = Scratch::fresh().take<A>(group * d_v);
  for (int64_t i = 0; i < length; ++i) {
    const int64_t row = p.keys->begin(b) + i;
    const T *k = p.key(row, kv_head), *q = p.query(row, kv_head * group);
    const A* a = p.decays(row, kv_head);
    p.kernels->mixers.step({.d = p.width,
                            .d_v = d_v,
                            .heads = group,
                            .a = a,
                            .a_step = p.by_feature() ? 1 : 0,
                            .k = k,
                            .v = p.value(row, kv_head),
                            .q = q,
                            .ldq = p.width,
                            .s = state.s(),
                            .out = out});
    if (p.normalised)
      for (int64_t d = 0; d < p.width; ++d)
        state.z()[d] = (a ? a[p.by_feature() ? d : 0] : A(1)) * state.z()[d] + A(k[d]);
    for (int64_t h = 0; h < group; ++h) {
      A factor = p.scale;
      if (p.normalised) {
        A den = 0;
        for (int64_t d = 0; d < p.width; ++d) den += A(q[h * p.width + d]) * state.z()[d];
        factor = reciprocal_or_zero(den);
      }
      p.kernels->attention.store_rows(1, d_v, &factor, out + h * d_v, d_v,
                                      result.out + (row * p.heads.n_heads + kv_head * group + h) * d_v, d_v);
    }
  }
  return 2 * length * p.width * d_v * (1 + group);
}

template int64_t recurrent_forward<double>(const Problem<double>&, int64_t, int64_t, const Result<double>&);
template int64_t recurrent_forward<float>(const Problem<float>&, int64_t, int64_t, const Result<float>&);
template int64_t recurrent_forward<bfloat16>(const Problem<bfloat16>&, int64_t, int64_t,
                                             const Result<bfloat16>&);

}  // namespace qkv::recurrence
