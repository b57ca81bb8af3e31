#include "qkv/autograd/ops/split.h"

#include <memory>
#include <numeric>

#include "qkv/base/trace.h"

namespace qkv {
namespace {

// The gradient of the whole while its parts come in.
struct Gathered {
  Tensor dx;
  std::vector<bool> came;
};

}  // namespace

std::vector<Var> split_columns(const Var& x, const std::vector<int64_t>& widths) {
  const trace::Span span("split", trace::Kind::kOp);
  const int64_t sum = std::accumulate(widths.begin(), widths.end(), int64_t{0});
  QKV_CHECK(x.value().rank() == 2 && x.size(1) == sum, kShape, "split_columns: {} is not {} columns wide",
            x.value().shape().str(), sum);
  const auto gathered =
      std::make_shared<Gathered>(Gathered{.dx = {}, .came = std::vector<bool>(widths.size())});
  std::vector<int64_t> begins;
  for (int64_t begin = 0; const int64_t width : widths) begins.push_back(std::exchange(begin, begin + width));
  const auto part_of = [=](const Tensor& whole, size_t i) {
    return whole.columns(begins[i], begins[i] + widths[i]);
  };

  // Older than the parts, so its turn comes when every gradient has arrived.
  const Var whole = Var::result(x.value(), x.requires_grad(), {x}, [=](const Tensor& dx) {
    for (size_t i = 0; i < widths.size(); ++i)
      if (!gathered->came[i]) part_of(dx, i).fill(0);
    x.add_grad(dx);
  });
  std::vector<Var> parts;
  for (size_t i = 0; i < widths.size(); ++i)
    parts.push_back(Var::result(part_of(x.value(), i), x.requires_grad(), {whole}, [=](const Tensor& dy) {
      if (!gathered->dx.defined()) {
        gathered->dx = Tensor::empty(whole.value().shape(), whole.dtype());
        whole.add_grad(gathered->dx);  // which keeps it, and is not read before all parts have written
      }
      trace::count_bytes(2 * dy.n_bytes());
      part_of(gathered->dx, i).copy_from(dy);
      gathered->came[i] = true;
    }));
  return parts;
}

}  // namespace qkv
