#include "qkv/tensor/quantised_rows.h"

#include <algorithm>

#include "qkv/base/parallel.h"
#include "qkv/kernels/table.h"

namespace qkv {

QuantisedRows quantise_rows(const Tensor& w) {
  QKV_CHECK(w.defined() && w.rank() == 2, kShape, "quantise_rows: needs a matrix");
  QKV_CHECK(w.dtype() == DType::kF32 || w.dtype() == DType::kBF16, kDtype,
            "quantise_rows: takes f32 or bf16, not {}", name(w.dtype()));
  const Tensor x = w.to(DType::kF32).contiguous();
  QuantisedRows rows{.n = w.size(0),
                     .k = w.size(1),
                     .integers = Buffer::allocate(std::max<int64_t>(1, w.numel())),
                     .scales = Tensor::empty({w.size(0)}, DType::kF32)};
  int8_t* q = reinterpret_cast<int8_t*>(rows.integers->data());
  parallel_for(
      rows.n, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, rows.k)), [&](int64_t begin, int64_t end) {
        kernels::table().f32.int8.quantise_rows(end - begin, rows.k, x.data<float>() + begin * rows.k, rows.k,
                                                q + begin * rows.k, rows.k, rows.scales.data<float>() + begin,
                                                /*zeros=*/nullptr);
      });
  return rows;
}

Tensor dequantised(const QuantisedRows& rows) {
  const Tensor w = Tensor::empty({rows.n, rows.k}, DType::kF32);
  for (int64_t j = 0; j < rows.n; ++j) {
    const float scale = rows.scales.data<float>()[j];
    std::transform(rows.row(j), rows.row(j) + rows.k, w.data<float>() + j * rows.k,
                   [scale](int8_t q) { return scale * static_cast<float>(q); });
  }
  return w;
}

}  // namespace qkv
