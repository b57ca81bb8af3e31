// The classic cases and their gradients against PyTorch's, in float64. sdpa_parity.py made sdpa_parity.txt.

#include <fstream>
#include <iterator>
#include <map>
#include <sstream>

#include "qkv/attention/sdpa.h"
#include "qkv/attention/test_cases.h"

namespace qkv {
namespace {

using namespace test;

// "case name" to tensor.
std::map<std::string, Tensor> stored() {
  std::map<std::string, Tensor> all;
  std::ifstream file(QKV_SOURCE_DIR "/qkv/attention/sdpa_parity.txt");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string of_case, name, sizes;
    words >> of_case >> name >> sizes;
    std::replace(sizes.begin(), sizes.end(), 'x', ' ');
    std::istringstream numbers(sizes);
    const std::vector<int64_t> shape{std::istream_iterator<int64_t>(numbers), {}};
    const std::vector<double> values{std::istream_iterator<double>(words), {}};
    all[of_case + " " + name] = Tensor::from(Shape(shape), values, DType::kF64);
  }
  return all;
}

TEST(Sdpa, IsPyTorchsInResultAndGradients) {
  const std::map<std::string, Tensor> want = stored();
  ASSERT_FALSE(want.empty());
  for (const std::string of_case : {"plain", "causal", "lower_right", "padding", "bias", "shared"})
    for (AttentionPath path : {AttentionPath::kReference, AttentionPath::kBlocked}) {
      const std::string shared = of_case == "shared" ? "_shared" : "";
      const auto leaf = [&](const std::string& name) { return Var(want.at("inputs " + name), true); };
      const Var q = leaf("q"), k = leaf("k" + shared), v = leaf("v" + shared), bias = leaf("bias");
      SdpaOptions options{.is_causal = of_case == "causal" || of_case == "shared",
                          .is_causal_lower_right = of_case == "lower_right",
                          .enable_gqa = of_case == "shared",
                          .path = path};
      if (of_case == "padding") options.rules = {key_limit({2, 4})};
      if (of_case == "bias") options.attn_bias = bias;
      const Var out = scaled_dot_product_attention(q, k, v, options);
      backward(out, want.at("inputs dout"));
      const auto expect = [&](const std::string& name, const Tensor& got) {
        EXPECT_LE(max_difference(got, want.at(of_case + " " + name)), 1e-8) << of_case << " " << name;
      };
      expect("out", out.value());
      expect("dq", q.grad());
      expect("dk", k.grad());
      expect("dv", v.grad());
      if (of_case == "bias") expect("dbias", bias.grad());
    }
}

}  // namespace
}  // namespace qkv
