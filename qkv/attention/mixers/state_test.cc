#include <gtest/gtest.h>

#include <type_traits>

#include "qkv/attention/mixers.h"
#include "qkv/attention/test_cases.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

using test::Inputs;
using test::max_difference;

static_assert(!std::is_copy_constructible_v<MixerState> && std::is_move_constructible_v<MixerState>);

// One text, its log decays where a mixer takes them, and the mixer.
struct Text {
  Inputs in;
  Tensor gates;
  MixerOptions options;

  Text(const std::string& mixer, int64_t length, DType dtype, uint64_t seed = 1) {
    options.heads = {.n_heads = 4, .n_kv_heads = 2, .d_k = 12, .d_v = 20};
    options.mixer = make_mixer(mixer, options.heads);
    in = test::random_inputs({.heads = options.heads, .q_lengths = {length}}, dtype, seed);
    if (mixer == "gla") {
      std::vector<double> g = random_tensor({length, 24}, seed + 5).values();
      for (double& x : g) x = -0.1 * x * x;
      gates = Tensor::from({length, 24}, g, dtype);
    }
  }
  MixerOptions of(int64_t begin, int64_t end) const {
    MixerOptions o = options;
    if (gates.defined()) o.log_decay = Var(gates.rows(begin, end));
    return o;
  }
  Tensor whole() const {
    return mix(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys, of(0, in.q.size(0))).value();
  }
  Tensor go_on(MixerState& state, int64_t begin, int64_t end) const {
    const Segments rows({end - begin});
    return mix_cached(in.q.rows(begin, end), in.k.rows(begin, end), in.v.rows(begin, end), rows, rows, state,
                      of(begin, end));
  }
};

double largest(const Tensor& x) {
  double most = 0;
  for (double v : x.values()) most = std::max(most, std::abs(v));
  return most;
}
double bound(DType dtype) { return dtype == DType::kF64 ? 1e-12 : dtype == DType::kF32 ? 1e-5 : 2e-2; }

// Recurrent against chunked, and chunks that begin elsewhere: the bound that mixers.h states.
TEST(MixerState, PromptThenTokenByTokenAgreesWithTheWholeText) {
  const test::OneThread one;
  for (std::string_view name : mixer_names())
    for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
      const Text text(std::string(name), 300, dtype);
      const Tensor whole = text.whole();
      for (const std::vector<int64_t>& cuts :
           {std::vector<int64_t>{0}, {64}, {70}, {200}, {3, 20, 150, 153}}) {
        MixerState state(1, text.options, dtype);
        int64_t at = 0;
        for (int64_t cut : cuts) {
          EXPECT_LE(max_difference(text.go_on(state, at, cut), whole.rows(at, cut)),
                    bound(dtype) * largest(whole))
              << name << " " << cut;
          at = cut;
        }
        for (; at < 300; ++at)
          ASSERT_LE(max_difference(text.go_on(state, at, at + 1), whole.rows(at, at + 1)),
                    bound(dtype) * largest(whole))
              << name << " " << qkv::name(dtype) << " token " << at << " after " << cuts[0];
      }
    }
}

TEST(MixerState, StepsOfABatchEqualThoseOfEachAlone) {
  for (std::string_view name : mixer_names()) {
    const Text a(std::string(name), 30, DType::kF32, 1), b(std::string(name), 30, DType::kF32, 100);
    MixerState one(1, a.options, DType::kF32), two(1, a.options, DType::kF32),
        both(2, a.options, DType::kF32);
    const auto joined = [](const Tensor& x, int64_t n, const Tensor& y, int64_t m, int64_t at_x,
                           int64_t at_y) {
      const Tensor t = Tensor::empty({n + m, x.size(1)}, x.dtype());
      t.rows(0, n).copy_from(x.rows(at_x, at_x + n));
      t.rows(n, n + m).copy_from(y.rows(at_y, at_y + m));
      return t;
    };
    int64_t at_a = 0, at_b = 0;
    for (auto [n, m] : {std::array<int64_t, 2>{20, 1}, {1, 1}, {1, 9}, {0, 3}, {2, 0}}) {
      MixerOptions o = a.options;
      if (a.gates.defined()) o.log_decay = Var(joined(a.gates, n, b.gates, m, at_a, at_b));
      const Segments rows({n, m});
      const Tensor got =
          mix_cached(joined(a.in.q, n, b.in.q, m, at_a, at_b), joined(a.in.k, n, b.in.k, m, at_a, at_b),
                     joined(a.in.v, n, b.in.v, m, at_a, at_b), rows, rows, both, o);
      test::expect_equal_bits(got.rows(0, n), a.go_on(one, at_a, at_a + n), std::string(name));
      test::expect_equal_bits(got.rows(n, n + m), b.go_on(two, at_b, at_b + m), std::string(name));
      at_a += n;
      at_b += m;
    }
  }
}

TEST(MixerState, SelectMakesCopiesOfParentsThatGoTheirOwnWay) {
  for (std::string_view name : mixer_names()) {
    const Text a(std::string(name), 40, DType::kF32, 1), b(std::string(name), 40, DType::kF32, 50);
    MixerState of_a(1, a.options, DType::kF32), of_b(1, a.options, DType::kF32);
    MixerState beams(1, a.options, DType::kF32);
    a.go_on(of_a, 0, 20);
    a.go_on(of_b, 0, 20);
    a.go_on(beams, 0, 20);
    const std::vector<int32_t> twice{0, 0}, second{1}, none{};
    beams.select(twice);
    ASSERT_EQ(beams.size(), 2);
    // The first goes on with a's next token, the second with b's.
    MixerOptions o = a.options;
    const auto stacked = [](const Tensor& x, const Tensor& y) {
      const Tensor t = Tensor::empty({2, x.size(1)}, x.dtype());
      t.rows(0, 1).copy_from(x.rows(20, 21));
      t.rows(1, 2).copy_from(y.rows(20, 21));
      return t;
    };
    if (a.gates.defined()) o.log_decay = Var(stacked(a.gates, b.gates));
    const Segments one_each({1, 1});
    const Tensor got = mix_cached(stacked(a.in.q, b.in.q), stacked(a.in.k, b.in.k), stacked(a.in.v, b.in.v),
                                  one_each, one_each, beams, o);
    test::expect_equal_bits(got.rows(0, 1), a.go_on(of_a, 20, 21), std::string(name));
    test::expect_equal_bits(got.rows(1, 2), b.go_on(of_b, 20, 21), std::string(name));
    beams.select(second);
    test::expect_equal_bits(b.go_on(beams, 21, 22), b.go_on(of_b, 21, 22), std::string(name));
    beams.select(none);
    EXPECT_EQ(beams.size(), 0);
  }
}

// An encoder's memory is taken in once, in two pieces here; queries come later and add nothing.
TEST(MixerState, KeepsAMemoryThatQueriesOnlyRead) {
  for (std::string_view name : {"linear", "performer"}) {
    Text text(std::string(name), 100, DType::kF64);
    text.options.causal = false;
    const Tensor whole = text.whole();
    MixerState state(1, text.options, DType::kF64);
    const Inputs& in = text.in;
    const Segments none({0}), one({1});
    (void)mix_cached(in.q.rows(0, 0), in.k.rows(0, 70), in.v.rows(0, 70), none, Segments({70}), state,
                     text.options);
    (void)mix_cached(in.q.rows(0, 0), in.k.rows(70, 100), in.v.rows(70, 100), none, Segments({30}), state,
                     text.options);
    for (int64_t i : {0, 5, 99})
      EXPECT_LE(max_difference(mix_cached(in.q.rows(i, i + 1), in.k.rows(0, 0), in.v.rows(0, 0), one, none,
                                          state, text.options),
                               whole.rows(i, i + 1)),
                1e-12)
          << name;
  }
}

TEST(MixerState, HasOneSizeHoweverLongTheText) {
  const Text text("linear", 300, DType::kBF16);
  MixerState state(1, text.options, DType::kBF16);
  const int64_t before = state.n_bytes();
  EXPECT_EQ(before, 4 * 2 * (12 * 21 + 1));
  text.go_on(state, 0, 300);
  EXPECT_EQ(state.n_bytes(), before);
}

TEST(MixerState, RefusesOthersSequencesAndSizes) {
  const Text text("linear", 10, DType::kF32);
  MixerState two(2, text.options, DType::kF32), other(1, {.heads = {.d_k = 3}}, DType::kF32);
  EXPECT_ERROR(kShape, "a state of 2 sequences in f32, for 1 sequences in f32", text.go_on(two, 0, 5));
  EXPECT_ERROR(kShape, "a state of [1, 12] numbers, linear needs [2, 252]", text.go_on(other, 0, 5));
  const std::vector<int32_t> bad{2};
  EXPECT_ERROR(kValue, "mixer state: parent 2 of 2 sequences", two.select(bad));
}

}  // namespace
}  // namespace qkv
