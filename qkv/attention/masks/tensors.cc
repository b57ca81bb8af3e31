// A mask and a bias that are given as tensors.

#include <algorithm>
#include <array>

#include "qkv/attention/sdpa.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

/// Sizes and strides of a tensor that stands for [batch, n_heads, q_len, kv_len]; a size of 1 stands for any.
struct Broadcast {
  std::array<int64_t, 4> size{}, stride{};
  Broadcast(const Tensor& t, const char* what) {
    QKV_CHECK(t.defined() && t.rank() == 4, kShape, "{}: needs [batch, n_heads, q_len, kv_len], got {}", what,
              t.defined() ? t.shape().str() : "nothing");
    for (int a = 0; a < 4; ++a) size[a] = t.size(a), stride[a] = t.size(a) == 1 ? 0 : t.stride(a);
  }
  bool holds(int axis, int64_t i) const { return size[axis] == 1 || (i >= 0 && i < size[axis]); }
  int64_t row(int64_t b, int64_t h, int64_t i) const { return b * stride[0] + h * stride[1] + i * stride[2]; }
};

class TensorMask final : public Mask {
 public:
  TensorMask(const Tensor& visible, int64_t past)
      : visible_(visible), at_(visible, "mask_tensor"), past_(past) {}

  void visible(const TilePlace& t, uint64_t* words) const noexcept override {
    for (int64_t r = 0; r < t.rows; ++r) {
      const int64_t i = t.i0 + r - past_;
      words[r] = 0;
      if (!at_.holds(0, t.batch) || !at_.holds(1, t.head) || !at_.holds(2, i)) continue;
      const int32_t* row = data_ + at_.row(t.batch, t.head, i);
      for (int64_t c = 0; c < t.cols; ++c)
        if (at_.holds(3, t.j0 + c)) words[r] |= uint64_t{row[(t.j0 + c) * at_.stride[3]] != 0} << c;
    }
  }

 private:
  Tensor visible_;
  Broadcast at_;
  int64_t past_;
  const int32_t* data_ = visible_.data<int32_t>();
};

class BiasTensor final : public EditFor<BiasTensor> {
 public:
  BiasTensor(const Var& bias, std::array<int64_t, 4> sizes, int64_t past)
      : bias_(bias), at_(bias.value(), "bias_tensor"), sizes_(sizes), past_(past) {
    for (size_t a = 0; a < 4; ++a)
      QKV_CHECK(at_.size[a] == 1 || at_.size[a] == sizes[a], kShape,
                "bias_tensor: {} does not broadcast to [{}, {}, {}, {}]", bias.value().shape().str(),
                sizes[0], sizes[1], sizes[2], sizes[3]);
  }
  bool passes_gradients() const override { return !bias_.requires_grad(); }
  bool backward_reads_scores() const override { return false; }
  std::vector<Var> inputs() const override { return {bias_}; }
  void begin_backward() const override {
    if (bias_.requires_grad() && !gradient_.defined())  // it may stand twice among the rules
      gradient_ =
          Tensor::zeros({sizes_[0], sizes_[1], sizes_[2], sizes_[3]}, accumulator_dtype(bias_.dtype()));
  }
  void end_backward() const override {
    if (!gradient_.defined()) return;
    bias_.add_grad(summed().to(bias_.dtype()));
    gradient_ = {};
  }

  template <class A>
  void edit(const ScoreTile<A>& t) const noexcept {
    kernels::visit_dtype(bias_.dtype(), [&]<class B>(B) {
      each_row(t, [&](int64_t r, int64_t i, int64_t cols) {
        const B* row = bias_.value().data<B>() + at_.row(t.batch, t.head, i);
        for (int64_t c = 0; c < cols; ++c) t.at(r, c) += static_cast<A>(row[(t.j0 + c) * at_.stride[3]]);
      });
    });
  }
  template <class A>
  void edit_backward(const ScoreTile<A>& t, A* ds, A* /*gradient*/) const noexcept {
    kernels::visit_dtype(gradient_.dtype(), [&]<class B>(B) {
      each_row(t, [&](int64_t r, int64_t i, int64_t cols) {
        const int64_t row = (t.batch * sizes_[1] + t.head) * sizes_[2] + i;
        B* sums = gradient_.data<B>() + row * sizes_[3] + t.j0;
        for (int64_t c = 0; c < cols; ++c)
          sums[c] = static_cast<B>(static_cast<A>(sums[c]) + ds[r * t.stride + c]);
      });
    });
  }

 private:
  // use(r, i, cols) for the tile's rows r that have a row i of their own, as far as that goes. Positions
  // count from the past; the tensor's rows do not.
  template <class Use>
  void each_row(const TilePlace& t, Use&& use) const noexcept {
    if (t.batch >= sizes_[0] || t.head >= sizes_[1]) return;
    for (int64_t r = 0; r < t.rows; ++r)
      if (const int64_t i = t.i0 + r - past_; i >= 0 && i < sizes_[2])
        use(r, i, std::min(t.cols, sizes_[3] - t.j0));
  }
  Tensor summed() const {
    const Tensor sum = Tensor::zeros(bias_.value().shape(), gradient_.dtype());
    kernels::visit_dtype(sum.dtype(), [&]<class A>(A) {
      const A* from = gradient_.data<A>();
      for (int64_t b = 0; b < sizes_[0]; ++b)
        for (int64_t h = 0; h < sizes_[1]; ++h)
          for (int64_t i = 0; i < sizes_[2]; ++i)
            for (int64_t j = 0; j < sizes_[3]; ++j) {
              const auto index = [&](int axis, int64_t x) { return at_.size[axis] == 1 ? 0 : x; };
              A& to = sum.data<A>()[((index(0, b) * at_.size[1] + index(1, h)) * at_.size[2] + index(2, i)) *
                                        at_.size[3] +
                                    index(3, j)];
              to = A(to + *from++);
            }
    });
    return sum;
  }

  Var bias_;
  Broadcast at_;
  std::array<int64_t, 4> sizes_;
  int64_t past_;
  mutable Tensor gradient_;  // of all pairs, while a backward pass runs
};

}  // namespace

MaskPtr mask_tensor(const Tensor& visible, int64_t past) {
  QKV_CHECK(past >= 0, kValue, "mask_tensor: past is {}, needs to be at least 0", past);
  QKV_CHECK(visible.defined() && visible.dtype() == DType::kI32, kDtype,
            "mask_tensor: needs i32, 0 or not, got {}; numbers to add go into bias_tensor",
            visible.defined() ? name(visible.dtype()) : "nothing");
  return std::make_shared<TensorMask>(visible, past);
}

EditPtr bias_tensor(const Var& bias, int64_t n_batch, int64_t n_heads, int64_t q_len, int64_t kv_len,
                    int64_t past) {
  QKV_CHECK(past >= 0, kValue, "bias_tensor: past is {}, needs to be at least 0", past);
  QKV_CHECK(std::min({n_batch, n_heads, q_len, kv_len}) >= 0, kValue,
            "bias_tensor: [{}, {}, {}, {}] has a negative size", n_batch, n_heads, q_len, kv_len);
  QKV_CHECK(bias.defined() && bias.dtype() != DType::kI32, kDtype,
            "bias_tensor: needs f64, f32 or bf16; true and false go into mask_tensor");
  return std::make_shared<BiasTensor>(bias, std::array{n_batch, n_heads, q_len, kv_len}, past);
}

}  // namespace qkv
