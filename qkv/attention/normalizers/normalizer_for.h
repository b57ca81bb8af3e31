#pragma once
// Lets a normalizer be written once for float and double: derive from NormalizerFor<Mine> and give it
//   template <class A> A row(int64_t head, int64_t n, A* s) const;
//   template <class A> void row_backward(int64_t head, int64_t n, const A* w, A* g, A* gradient) const;

#include "qkv/attention/normalizers.h"

namespace qkv {

template <class Derived>
class NormalizerFor : public Normalizer {
 public:
  double weights(int64_t head, int64_t n, double* s) const final { return mine().row(head, n, s); }
  float weights(int64_t head, int64_t n, float* s) const final { return mine().row(head, n, s); }
  void backward(int64_t head, int64_t n, const double* w, double* g, double* gradient) const final {
    mine().row_backward(head, n, w, g, gradient);
  }
  void backward(int64_t head, int64_t n, const float* w, float* g, float* gradient) const final {
    mine().row_backward(head, n, w, g, gradient);
  }

 private:
  const Derived& mine() const { return static_cast<const Derived&>(*this); }
};

}  // namespace qkv
