#include "qkv/autograd/recompute.h"

#include "qkv/base/trace.h"

namespace qkv::detail {

Var recompute(const Piece& first, Piece again, std::vector<Var> inputs) {
  const trace::Span span("recompute", trace::Kind::kOp);
  const auto value = [&] {
    const NoGrad off;
    return first().value();
  };
  // Whether parameters that train are in it is not known before it is recorded.
  return Var::result(value(), true, std::move(inputs), [again = std::move(again)](const Tensor& grad) {
    const GradMode on(true);
    const int64_t mark = tape_mark();
    if (const Var result = again(); result.requires_grad()) backward_since(mark, result, grad);
  });
}

}  // namespace qkv::detail
