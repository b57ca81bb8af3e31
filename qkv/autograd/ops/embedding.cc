#include "qkv/autograd/ops/embedding.h"

#include "qkv/base/parallel.h"
#include "qkv/base/trace.h"
#include "qkv/kernels/table.h"

namespace qkv {
namespace {

void check_ids(const std::vector<int32_t>& ids, const ParameterPtr& table) {
  const int64_t rows = table->value().size(0);
  for (int32_t id : ids)
    QKV_CHECK(id >= 0 && id < rows, kValue, "embedding: {} is outside the {} rows of {}", id, rows,
              table->name());
}

// grad[ids[r]] += scale * dy[r], threads splitting the columns so that each sum runs over r in order.
template <class T>
void scatter(const Tensor& dy, const std::vector<int32_t>& ids, double scale, const Tensor& grad) {
  const int64_t d = dy.size(1);
  parallel_for(d, 32, [&](int64_t begin, int64_t end) {
    kernels::table().of<T>().rows.scatter_add(dy.size(0), d, begin, end, dy.data<T>(), ids.data(),
                                              static_cast<accumulator_t<T>>(scale),
                                              grad.data<accumulator_t<T>>());
  });
}

}  // namespace

Var embedding(const std::vector<int32_t>& ids, const ParameterPtr& table, double scale,
              const std::vector<int32_t>& position_ids, const ParameterPtr& positions, DType dtype) {
  const trace::Span span("embedding", trace::Kind::kOp);
  check_ids(ids, table);
  if (positions) {
    QKV_CHECK(position_ids.size() == ids.size(), kShape, "embedding: {} ids but {} positions", ids.size(),
              position_ids.size());
    check_ids(position_ids, positions);
  }
  const int64_t n = static_cast<int64_t>(ids.size()), d = table->value().size(1);
  const Tensor out = Tensor::empty({n, d}, dtype);
  kernels::visit_dtype(dtype, [&]<class T>(T) {
    using A = accumulator_t<T>;
    const auto gather = kernels::table().of<T>().rows.gather;
    parallel_for(n, 64, [&](int64_t r0, int64_t r1) {
      gather(r1 - r0, d, table->value().data<A>(), ids.data() + r0, static_cast<A>(scale),
             positions ? positions->value().data<A>() : nullptr,
             positions ? position_ids.data() + r0 : nullptr, out.data<T>() + r0 * d);
    });
  });
  const bool learned = positions && positions->trainable();
  return Var::result(out, table->trainable() || learned, {}, [=](const Tensor& grad) {
    const Tensor dy = grad.contiguous();
    kernels::visit_dtype(dtype, [&]<class T>(T) {
      if (table->trainable()) scatter<T>(dy, ids, scale, table->grad());
      if (learned) scatter<T>(dy, position_ids, 1.0, positions->grad());
    });
  });
}

}  // namespace qkv
