#include "qkv/models/gpt2.h"

#include <gtest/gtest.h>

#include "qkv/autograd/gradcheck.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

Gpt2Config tiny(const std::string& attention, const std::string& positions = "none") {
  return {.vocab_size = 13,
          .max_len = 64,
          .d_model = 8,
          .n_layers = 2,
          .n_heads = 2,
          .d_ff = 12,
          .dropout = 0,
          .positions = positions,
          .attention = attention};
}

// Biases, bias tables and slopes that are not zero, as they are when fresh.
void fill(const Gpt2& model) {
  for (const ParameterPtr& p : model.parameters().all())
    if (!p->name().ends_with(".weight") || p->name().find("bias") != std::string::npos)
      p->set_value(random_tensor(p->value().shape(), 7, p->value().dtype(), 0.3));
}

std::vector<int32_t> text_of(int64_t n) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>(i * i % 13));
  return ids;
}

TEST(Gpt2, GradientsAreRightWhateverTheAttention) {
  for (const char* words : {"scaled_dot", "qk_norm + rope", "learned_alibi + sink", "dot + t5:4:9 + window:3",
                            "shaw:2", "transformer_xl + soft_cap:3"}) {
    Gpt2Config c = tiny(words, std::string(words) == "scaled_dot" ? "learned" : "none");
    c.n_layers = 1;
    const Gpt2 model(c, 3, DType::kF64);
    fill(model);
    EXPECT_EQ(gradcheck(
                  [&](const auto&) {
                    Pass pass = Pass::training(DType::kF64, 1, 1);
                    return model(pass, text_of(7), Segments({4, 3}));
                  },
                  {}, model.parameters().all()),
              "")
        << words;
  }
}

// Positions relative to the query: a text in segments, all of it remembered, is the text as a whole.
TEST(Gpt2, ATextReadInSegmentsIsTheTextReadAtOnce) {
  const NoGrad off;
  for (const char* words : {"rope", "alibi", "dot + t5:4:9", "shaw:3", "transformer_xl"})
    for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
      const Gpt2 model(tiny(words), 3, accumulator_dtype(dtype));
      fill(model);
      Pass pass = Pass::running(dtype);
      const std::vector<int32_t> first = text_of(90), second = text_of(5);
      std::vector<int32_t> both = first;
      both.insert(both.end(), second.begin(), second.end());
      const std::vector<double> whole = model(pass, both, Segments({90, 5})).value().values();

      SegmentMemory memory(2, 100);
      std::vector<double> pieces[2];
      for (const auto& [a, b] : {std::pair{64, 1}, {3, 0}, {23, 4}}) {
        const auto begin = static_cast<std::ptrdiff_t>(pieces[0].size() / 8),
                   other = static_cast<std::ptrdiff_t>(pieces[1].size() / 8);
        std::vector<int32_t> ids(first.begin() + begin, first.begin() + begin + a);
        ids.insert(ids.end(), second.begin() + other, second.begin() + other + b);
        const std::vector<double> out = model(pass, ids, Segments({a, b}), nullptr, &memory).value().values();
        pieces[0].insert(pieces[0].end(), out.begin(), out.begin() + a * 8);
        pieces[1].insert(pieces[1].end(), out.begin() + a * 8, out.end());
      }
      pieces[0].insert(pieces[0].end(), pieces[1].begin(), pieces[1].end());
      ASSERT_EQ(pieces[0].size(), whole.size());
      for (size_t i = 0; i < whole.size(); ++i)
        ASSERT_NEAR(pieces[0][i], whole[i],
                    dtype == DType::kF64   ? 1e-12
                    : dtype == DType::kF32 ? 1e-5
                                           : 0.05)
            << words << " " << name(dtype) << " " << i;
    }
}

TEST(Gpt2, AMemoryNeedsRelativePositions) {
  const Gpt2 model(tiny("scaled_dot", "sinusoidal"), 3);
  SegmentMemory memory(2, 4);
  Pass pass = Pass::running(DType::kF32);
  EXPECT_ERROR(kValue, "relative positions", (void)model(pass, {1, 2}, Segments({2}), nullptr, &memory));
}

}  // namespace
}  // namespace qkv
