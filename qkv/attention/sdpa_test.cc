#include "qkv/attention/sdpa.h"

#include "qkv/attention/test_cases.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

using namespace test;

struct Given {
  Tensor q, k, v;
};
Given given(int64_t batch, int64_t heads, int64_t kv_heads, int64_t q_len, int64_t kv_len,
            DType dtype = DType::kF64) {
  return {random_tensor({batch, heads, q_len, 4}, 1, dtype),
          random_tensor({batch, kv_heads, kv_len, 4}, 2, dtype),
          random_tensor({batch, kv_heads, kv_len, 3}, 3, dtype)};
}

// The definition, in loops: bias(b, h, i, j) is added to scores; -inf hides.
template <class Bias>
Tensor by_hand(const Given& x, double scale, Bias&& bias) {
  const int64_t batch = x.q.size(0), heads = x.q.size(1), q_len = x.q.size(2), kv_len = x.k.size(2),
                group = heads / x.k.size(1), d_v = x.v.size(3);
  std::vector<double> out;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t i = 0; i < q_len; ++i) {
        std::vector<double> w, o(static_cast<size_t>(d_v));
        double sum = 0;
        for (int64_t j = 0; j < kv_len; ++j) {
          double s = 0;
          for (int64_t d = 0; d < x.q.size(3); ++d) s += x.q.at({b, h, i, d}) * x.k.at({b, h / group, j, d});
          w.push_back(std::exp(scale * s + bias(b, h, i, j)));
          sum += w.back();
        }
        for (int64_t j = 0; j < kv_len && sum > 0; ++j)
          for (int64_t d = 0; d < d_v; ++d)
            o[static_cast<size_t>(d)] += w[static_cast<size_t>(j)] / sum * x.v.at({b, h / group, j, d});
        out.insert(out.end(), o.begin(), o.end());
      }
  return Tensor::from({batch, heads, q_len, d_v}, out, DType::kF64);
}
Tensor call(const Given& x, const SdpaOptions& options = {}) {
  return scaled_dot_product_attention(Var(x.q), Var(x.k), Var(x.v), options).value();
}
constexpr double kHidden = -std::numeric_limits<double>::infinity();

TEST(Sdpa, IsTheDefinition) {
  const Given x = given(2, 3, 3, 5, 7);
  const auto none = [](int64_t, int64_t, int64_t, int64_t) { return 0.0; };
  EXPECT_LE(max_difference(call(x).contiguous(), by_hand(x, 0.5, none)), 1e-12);
  EXPECT_LE(max_difference(call(x, {.scale = 0.3}).contiguous(), by_hand(x, 0.3, none)), 1e-12);
  const Given shared = given(2, 4, 2, 5, 7);
  EXPECT_LE(max_difference(call(shared, {.enable_gqa = true}).contiguous(), by_hand(shared, 0.5, none)),
            1e-12);
}

TEST(Sdpa, CausalBeginsAtTheTopLeftOrEndsAtTheLowerRight) {
  const Given x = given(2, 2, 2, 3, 7);
  EXPECT_LE(max_difference(
                call(x, {.is_causal = true}).contiguous(),
                by_hand(x, 0.5, [](int64_t, int64_t, int64_t i, int64_t j) { return j <= i ? 0 : kHidden; })),
            1e-12);
  EXPECT_LE(
      max_difference(
          call(x, {.is_causal_lower_right = true}).contiguous(),
          by_hand(x, 0.5, [](int64_t, int64_t, int64_t i, int64_t j) { return j <= i + 4 ? 0 : kHidden; })),
      1e-12);
}

TEST(Sdpa, MasksAndBiasesBroadcast) {
  const Given x = given(2, 2, 2, 3, 70);
  for (const Shape& shape : {Shape{2, 2, 3, 70}, Shape{1, 1, 3, 70}, Shape{2, 1, 1, 70}, Shape{3, 70},
                             Shape{70}, Shape{2, 3, 1}}) {
    const Tensor noise = random_tensor(shape, 9);
    std::vector<double> bits;
    for (double n : noise.values()) bits.push_back(n > -0.3 ? 1 : 0);
    const Tensor mask = Tensor::from(shape, bits, DType::kI32);
    const auto at = [&](const Tensor& t, int64_t b, int64_t h, int64_t i, int64_t j) {
      const int64_t index[] = {b, h, i, j};
      int64_t place = 0;
      for (int a = 0; a < t.rank(); ++a) {
        const int64_t size = t.size(a), full = index[4 - t.rank() + a];
        place = place * size + (size == 1 ? 0 : full);
      }
      return t.values()[static_cast<size_t>(place)];
    };
    EXPECT_LE(max_difference(call(x, {.attn_mask = mask}).contiguous(),
                             by_hand(x, 0.5,
                                     [&](int64_t b, int64_t h, int64_t i, int64_t j) {
                                       return at(mask, b, h, i, j) != 0 ? 0 : kHidden;
                                     })),
              1e-12)
        << shape.str();
    EXPECT_LE(max_difference(
                  call(x, {.attn_bias = Var(noise)}).contiguous(),
                  by_hand(x, 0.5,
                          [&](int64_t b, int64_t h, int64_t i, int64_t j) { return at(noise, b, h, i, j); })),
              1e-12)
        << shape.str();
  }
}

TEST(Sdpa, ARowThatSeesNothingIsZeroAndNanStaysWhereItIsSeen) {
  Given x = given(1, 1, 1, 2, 3, DType::kF32);
  x.v.data<float>()[2 * 3] = std::nanf("");  // key 2
  const Tensor mask = Tensor::from({2, 3}, {1, 1, 0, 0, 0, 0}, DType::kI32);
  for (double value : call(x, {.attn_mask = mask}).contiguous().values()) EXPECT_FALSE(std::isnan(value));
  for (int64_t d = 0; d < 3; ++d) EXPECT_EQ(call(x, {.attn_mask = mask}).at({0, 0, 1, d}), 0);
}

TEST(Sdpa, GradientsMatchFiniteDifferences) {
  const Given x = given(2, 2, 1, 3, 4);
  for (const Shape& shape : {Shape{2, 2, 3, 4}, Shape{1, 2, 1, 4}, Shape{3, 4}})
    for (AttentionPath path : {AttentionPath::kReference, AttentionPath::kBlocked})
      EXPECT_EQ(gradcheck(
                    [&](const std::vector<Var>& in) {
                      return scaled_dot_product_attention(
                          in[0], in[1], in[2], {.attn_bias = in[3], .enable_gqa = true, .path = path});
                    },
                    {x.q, x.k, x.v, random_tensor(shape, 5)}),
                "")
          << shape.str();
}

TEST(Sdpa, TakesStridedTensors) {
  const Tensor packed = random_tensor({2, 5, 3, 4}, 1);  // [batch, length, heads, width]
  const Tensor heads_first = packed.transpose(1, 2);
  const Given x{heads_first, heads_first, heads_first};
  const Given copied{heads_first.contiguous(), heads_first.contiguous(), heads_first.contiguous()};
  EXPECT_EQ(max_difference(call(x).contiguous(), call(copied).contiguous()), 0);
}

TEST(Sdpa, HeadsAreSplitAndMergedWithoutACopyAndWithGradients) {
  const Var rows(random_tensor({6, 8}, 1));
  const Var heads = split_heads(rows, 2, 4);
  EXPECT_EQ(heads.value().shape(), (Shape{2, 4, 3, 2}));
  EXPECT_EQ(heads.value().at({1, 2, 0, 1}), rows.value().at({3, 5}));
  const Tensor back = merge_heads(heads).value();
  EXPECT_EQ(back.data<double>(), rows.value().data<double>());
  EXPECT_EQ(gradcheck([](const auto& x) { return split_heads(x[0], 2, 4); }, {rows.value()}), "");
  EXPECT_EQ(gradcheck([](const auto& x) { return merge_heads(x[0]); }, {heads.value().clone()}), "");
  EXPECT_EQ(split_heads(Var(Tensor::zeros({0, 8}, DType::kF64)), 2, 4).value().shape(), (Shape{2, 4, 0, 2}));
  EXPECT_THROW((void)split_heads(rows, 4, 4), Error);
  EXPECT_THROW((void)split_heads(rows, 2, 3), Error);
  EXPECT_THROW((void)merge_heads(rows), Error);
}

TEST(Sdpa, ABatchOfNothingKeepsItsSizesAndHasAGradient) {
  const Var q(Tensor::zeros({0, 2, 5, 4}, DType::kF64), true),
      v(Tensor::zeros({0, 2, 7, 3}, DType::kF64), true), k(Tensor::zeros({0, 2, 7, 4}, DType::kF64), true);
  const Var out = scaled_dot_product_attention(q, k, v);
  EXPECT_EQ(out.value().shape(), (Shape{0, 2, 5, 3}));
  backward(out, out.value());
  EXPECT_EQ(q.grad().shape(), q.value().shape());
  EXPECT_EQ(v.grad().shape(), v.value().shape());
}

TEST(Sdpa, RefusesNoHeads) {
  const Var none(Tensor::zeros({2, 0, 5, 4}, DType::kF64), true);
  EXPECT_ERROR(kShape, "with n_heads > 0, got [2, 0, 5, 4]", (void)merge_heads(none));
  EXPECT_ERROR(kShape, "0 query heads and 0 key heads", (void)scaled_dot_product_attention(none, none, none));
}

TEST(Sdpa, SaysWhatDoesNotFit) {
  const Given x = given(1, 2, 1, 3, 4);
  const auto code = [&](const Given& g, const SdpaOptions& o) {
    try {
      (void)call(g, o);
    } catch (const Error& e) {
      return e.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(code(x, {}), ErrorCode::kValue);  // two heads, one key head, without enable_gqa
  const Given y = given(1, 2, 2, 3, 4);
  const Tensor mask = Tensor::from({3, 4}, std::vector<double>(12, 1), DType::kI32);
  EXPECT_EQ(code(y, {.attn_mask = mask, .is_causal = true}), ErrorCode::kValue);
  EXPECT_EQ(code(y, {.attn_mask = mask, .attn_bias = Var(random_tensor({3, 4}, 1))}), ErrorCode::kValue);
  EXPECT_EQ(code(y, {.attn_bias = Var(random_tensor({2, 4}, 1))}), ErrorCode::kShape);
  EXPECT_EQ(code(y, {.dropout_p = 1}), ErrorCode::kValue);
  EXPECT_EQ(code(y, {.scale = -1}), ErrorCode::kValue);
  EXPECT_EQ(code(y, {.scale = 0}), ErrorCode::kValue) << "not silently 1 / sqrt(d_k)";
  EXPECT_EQ(code(y, {.attn_mask = random_tensor({3, 4}, 1)}), ErrorCode::kDtype) << "that is a bias";
  EXPECT_EQ(code(y, {.attn_bias = Var(mask)}), ErrorCode::kDtype) << "that is a mask";
  EXPECT_EQ(code({y.q, y.k, y.v.transpose(2, 3)}, {}), ErrorCode::kShape);
  EXPECT_EQ(code(given(1, 1, 1, 4, 3), {.is_causal_lower_right = true}), ErrorCode::kShape);
}

}  // namespace
}  // namespace qkv
