#include "apps/cli/bench_gemm.h"

#include <fmt/core.h>

#include <cstdio>
#include <vector>

#include "apps/cli/bench_timing.h"
#include "qkv/autograd/gradcheck.h"
#include "qkv/tensor/matmul.h"

namespace qkv::cli {
std::vector<Products> products_of(const std::string& shape) {
  if (shape.empty()) {
    std::vector<Products> suite;
    for (const auto& [k, n] : {std::pair{768, 768}, {768, 3072}, {3072, 768}, {4096, 4096}, {768, 32000}})
      suite.push_back({.k = k, .n = n, .m = {1, 8, 32, 128, 512, 2048}});
    return suite;
  }
  int64_t m = 0, k = 0, n = 0;
  char rest = 0;
  QKV_CHECK(std::sscanf(shape.c_str(), "%ldx%ldx%ld%c", &m, &k, &n, &rest) == 3 && m > 0 && k > 0 && n > 0 &&
                m < (1 << 24) && k < (1 << 20) && n < (1 << 20),
            kValue, "bench gemm: shape '{}' is not MxKxN, as 512x768x3072", shape);
  return {{.k = k, .n = n, .m = {m}}};
}

void bench_gemm(const std::string& shape, const Precision& precision, bool json) {
  const DType dtype = precision.dtype;
  for (const Products& p : products_of(shape)) {
    const Tensor w = random_tensor({p.k, p.n}, 2, accumulator_dtype(dtype));
    const PackedMatrix b = pack_matrix(w, precision);
    for (const int64_t m : p.m) {
      const Tensor a = random_tensor({m, p.k}, 1, dtype), c = Tensor::empty({m, p.n}, dtype);
      const std::string text = fmt::format("{}x{}x{}", m, p.k, p.n);
      print_case({.name = fmt::format("gemm {} {}", text, name(precision)),
                  .shape = text,
                  .precision = precision,
                  .work = 2e-9 * static_cast<double>(m) * static_cast<double>(p.k) * static_cast<double>(p.n),
                  .bytes = static_cast<double>(a.n_bytes() + b.data->bytes() + c.n_bytes())},
                 timed([&] { matmul(a, b, c); }), json);
    }
  }
}

}  // namespace qkv::cli
