// What rules of a user's own cost: the same bias and the same mask as one of the library's, by distance, and
// pair by pair, against no rule. One JSON line a rule.
//
//   bench/rules [--backward] [--length 2048] [--rounds 15]
//
// 1 sequence, 12 heads, d_k 64, bf16, all threads. Rules take turns, so that a slow minute of the machine
// falls on all of them; the time is the median over the rounds, and `over_none` the median of the rounds'
// ratios.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "qkv/attention/attention.h"
#include "qkv/autograd/gradcheck.h"

namespace qkv {
namespace {

// An edit that does nothing: what remains is asking it, and scaling scores before it instead of in the
// softmax.
class Nothing final : public EditFor<Nothing> {
 public:
  template <class A>
  void edit(const ScoreTile<A>&) const noexcept {}
};

struct Case {
  std::string name;
  std::vector<RulePtr> rules;
};

std::vector<Case> cases(int64_t n_heads) {
  const auto slope = [](auto head) { return -0.01f * static_cast<float>(head + 1); };
  const auto near = [](auto d) { return d <= 0 && d > -512; };
  return {
      {"none", {}},
      {"an edit that does nothing", {std::make_shared<Nothing>()}},
      {"ALiBi", {alibi(n_heads)}},
      {"ALiBi, distance_bias(f)",
       {distance_bias([=](int64_t h, int64_t d) { return slope(h) * std::abs(d); })}},
      {"ALiBi, bias(f) of int64_t, double", {bias([=](int64_t, int64_t h, int64_t i, int64_t j) {
         return static_cast<double>(slope(h)) * static_cast<double>(std::abs(i - j));
       })}},
      {"ALiBi, bias(f) of auto, double",
       {bias([=](auto, auto h, auto i, auto j) { return static_cast<double>(slope(h)) * std::abs(i - j); })}},
      {"ALiBi, bias(f) of auto, float",
       {bias([=](auto, auto h, auto i, auto j) { return slope(h) * static_cast<float>(std::abs(i - j)); })}},
      {"causal", {causal()}},
      {"causal, distance_mask(f)", {distance_mask([](int64_t, int64_t d) { return d <= 0; })}},
      {"causal, mask(f) of int64_t", {mask([](int64_t, int64_t, int64_t i, int64_t j) { return j <= i; })}},
      {"causal, mask(f) of auto", {mask([](auto, auto, auto i, auto j) { return j <= i; })}},
      {"window 512", {sliding_window(512)}},
      {"window 512, distance_mask(f)", {distance_mask([=](int64_t, int64_t d) { return near(d); })}},
      {"window 512, mask(f) of auto", {mask([=](auto, auto, auto i, auto j) { return near(j - i); })}},
  };
}

double median(std::vector<double> x) {
  std::nth_element(x.begin(), x.begin() + static_cast<int64_t>(x.size() / 2), x.end());
  return x[x.size() / 2];
}

void run(bool backward_too, int64_t length, int rounds) {
  const int64_t heads = 12, d = 64;
  const Segments text({length});
  const auto input = [&](uint64_t seed) {
    return Var(random_tensor({length, heads * d}, seed, DType::kBF16), backward_too);
  };
  const Var q = input(1), k = input(2), v = input(3);
  const Tensor gradient = random_tensor({length, heads * d}, 4, DType::kBF16);
  const std::vector<Case> all = cases(heads);
  std::vector<std::vector<double>> seconds(all.size());
  for (int round = -2; round < rounds; ++round)
    for (size_t r = 0; r < all.size(); ++r) {
      for (const Var* x : {&q, &k, &v}) x->set_grad({});
      const auto begin = std::chrono::steady_clock::now();
      const Var out =
          attention(q, k, v, text, text, {.heads = {.n_heads = heads, .d_k = d}, .rules = all[r].rules});
      if (backward_too) backward(out, gradient);
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
      if (round >= 0) seconds[r].push_back(took.count());
    }
  for (size_t r = 0; r < all.size(); ++r) {
    std::vector<double> ratios;
    for (size_t i = 0; i < seconds[r].size(); ++i) ratios.push_back(seconds[r][i] / seconds[0][i]);
    std::printf(
        "{\"rule\": \"%s\", \"pass\": \"%s\", \"length\": %ld, \"med_ms\": %.2f, \"over_none\": %.3f}\n",
        all[r].name.c_str(), backward_too ? "fwdbwd" : "fwd", length, 1e3 * median(seconds[r]),
        median(ratios));
  }
}

}  // namespace
}  // namespace qkv

int main(int argc, char** argv) {
  bool backward = false;
  long length = 2048, rounds = 15;
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--backward"))
      backward = true;
    else if (!std::strcmp(argv[i], "--length") && i + 1 < argc)
      length = std::atol(argv[++i]);
    else if (!std::strcmp(argv[i], "--rounds") && i + 1 < argc)
      rounds = std::atol(argv[++i]);
    else
      return 2;
  }
  if (length < 1 || rounds < 1) return 2;
  qkv::run(backward, length, static_cast<int>(rounds));
}
