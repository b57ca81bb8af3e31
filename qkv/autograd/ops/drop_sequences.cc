#include "qkv/autograd/ops/drop_sequences.h"

#include "qkv/base/parallel.h"
#include "qkv/base/trace.h"
#include "qkv/kernels/table.h"

namespace qkv {

Var drop_sequences(const Var& x, const Segments& sequences, double p, const RandomKey& key) {
  QKV_CHECK(p >= 0 && p < 1, kValue, "drop_sequences: p is {}, needs to be at least 0 and below 1", p);
  QKV_CHECK(x.value().rank() == 2 && x.size(0) == sequences.n_tokens(), kShape,
            "drop_sequences: x is {}, the sequences have {} rows", x.value().shape().str(),
            sequences.n_tokens());
  if (p == 0) return x;
  const trace::Span span("drop_sequences", trace::Kind::kOp);
  // Its own backward: the gradient goes the same way.
  const auto apply = [=](const Tensor& t) {
    const Tensor out = Tensor::empty(t.shape(), t.dtype());
    const int64_t d = t.size(1);
    kernels::visit_dtype(t.dtype(), [&]<class T>(T) {
      parallel_for(sequences.size(), 1, [&](int64_t first, int64_t last) {
        for (int64_t b = first; b < last; ++b) {
          const int64_t begin = sequences.begin(b) * d, n = sequences.length(b) * d;
          if (random_block(key, static_cast<uint64_t>(b))[0] < p * 0x1p32)
            std::fill_n(out.data<T>() + begin, n, T{});
          else
            kernels::table().of<T>().rows.scale(n, static_cast<accumulator_t<T>>(1 / (1 - p)),
                                                t.data<T>() + begin, out.data<T>() + begin);
        }
      });
    });
    return out;
  };
  return Var::result(apply(x.value().contiguous()), x.requires_grad(), {x},
                     [=](const Tensor& dy) { x.add_grad(apply(dy.contiguous())); });
}

}  // namespace qkv
