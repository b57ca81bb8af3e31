// Models train on the fused paths as they do by definition: the same model, seed and batches
//   fast       the kernels in use and attention's own choice of path,
//   plain      the reference kernels and attention's reference path,
//   exact      f64 on the reference path,
// and fast is at most twice as far from exact as plain is (three times where single weights have gone their
// way for all the steps): rounding errors of one dtype are of one size whichever way the sums go, an error of
// a formula is not.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>

#include "qkv/autograd/ops/cross_entropy.h"
#include "qkv/base/cpu.h"
#include "qkv/base/parallel.h"
#include "qkv/io/testing.h"
#include "qkv/models/bert.h"
#include "qkv/models/gpt2.h"
#include "qkv/models/transformer.h"

namespace qkv {
namespace {

constexpr int64_t kSteps = 24, kBatches = 4, kVocab = 61;
const Segments kTexts({67, 12});  // past a tile of 64 keys, and short of one

struct Subject {
  std::vector<ParameterPtr> parameters;
  std::function<CrossEntropy(Pass&, int64_t batch, double scale)> loss;
};

// Each id follows from the one before it.
std::vector<int32_t> ids_of(int64_t batch) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < kTexts.n_tokens(); ++i)
    ids.push_back(
        static_cast<int32_t>(i % 7 == 0 ? (11 * i + 5 * batch) % kVocab : (ids.back() * 6 + 1) % kVocab));
  return ids;
}
// What stands `by` places further on in the batch.
std::vector<int32_t> shifted(std::vector<int32_t> ids, int64_t by) {
  std::rotate(ids.begin(), ids.begin() + by, ids.end());
  return ids;
}

Subject transformer(DType masters, const std::string& attention) {
  const auto model = std::make_shared<Transformer>(TransformerConfig{.vocab_size = kVocab,
                                                                     .d_model = 40,
                                                                     .d_ff = 56,
                                                                     .encoder_layers = 1,
                                                                     .decoder_layers = 2,
                                                                     .n_heads = 2,
                                                                     .max_len = 80,
                                                                     .encoder_attention = attention,
                                                                     .decoder_attention = attention,
                                                                     .cross_attention = attention,
                                                                     .dropout = 0.1,
                                                                     .attention_dropout = 0.1},
                                                   3, masters);
  return {.parameters = model->parameters().all(), .loss = [model](Pass& pass, int64_t batch, double scale) {
            const std::vector<int32_t> source = ids_of(batch), target = shifted(source, 3);
            const Var memory = model->encode(pass, source, kTexts);
            return cross_entropy(model->decode(pass, target, kTexts, memory, kTexts), model->output_weight(),
                                 model->output_bias(), shifted(target, 1), 0.1, scale);
          }};
}

Subject gpt2(DType masters, const std::string& attention) {
  const auto model = std::make_shared<Gpt2>(Gpt2Config{.vocab_size = kVocab,
                                                       .max_len = 80,
                                                       .d_model = 40,
                                                       .n_layers = 2,
                                                       .n_heads = 2,
                                                       .d_ff = 56,
                                                       .attention = attention},
                                            3, masters);
  return {.parameters = model->parameters().all(), .loss = [model](Pass& pass, int64_t batch, double scale) {
            const std::vector<int32_t> ids = ids_of(batch);
            return cross_entropy((*model)(pass, ids, kTexts), model->embedding(), nullptr, shifted(ids, 1), 0,
                                 scale);
          }};
}

Subject bert(DType masters, const std::string& attention) {
  const auto model = std::make_shared<Bert>(BertConfig{.vocab_size = kVocab,
                                                       .max_len = 80,
                                                       .d_model = 40,
                                                       .n_layers = 2,
                                                       .n_heads = 2,
                                                       .d_ff = 56,
                                                       .attention = attention},
                                            3, masters);
  return {.parameters = model->parameters().all(), .loss = [model](Pass& pass, int64_t batch, double scale) {
            const std::vector<int32_t> ids = ids_of(batch);
            return cross_entropy(model->predict((*model)(pass, ids, kTexts)), model->output_weight(),
                                 model->output_bias(), shifted(ids, 2), 0, scale);
          }};
}

using MakeSubject = Subject (*)(DType masters, const std::string& attention);

using Values = std::vector<double>;
struct Trajectory {
  Values losses;                     // a token, at each step
  std::vector<Values> first, moved;  // how far each parameter is from its start: after a step, at the end
};

// Gradient descent with momentum: unlike Adam's, its steps show what a gradient's size is.
Trajectory train(MakeSubject make, DType dtype, bool reference) {
  const DType masters = accumulator_dtype(dtype);
  const Subject subject = make(masters, reference ? "scaled_dot + reference" : "scaled_dot");
  const Subject start = make(DType::kF32, "scaled_dot");
  std::vector<Values> at, velocity;
  for (size_t i = 0; i < subject.parameters.size(); ++i) {
    at.push_back(start.parameters[i]->value().values());
    velocity.emplace_back(at.back().size());
    Parameter& p = *subject.parameters[i];
    p.set_value(Tensor::from(p.shape(), at.back(), masters));
  }
  const std::vector<Values> begin = at;
  const auto from_start = [&] {
    std::vector<Values> moved = at;
    for (size_t i = 0; i < at.size(); ++i)
      for (size_t e = 0; e < at[i].size(); ++e) moved[i][e] -= begin[i][e];
    return moved;
  };
  Trajectory run;
  for (int64_t step = 0; step < kSteps; ++step) {
    Pass pass = Pass::training(dtype, 1, static_cast<uint32_t>(step));
    const double scale = 1 / static_cast<double>(kTexts.n_tokens());
    const CrossEntropy ce = subject.loss(pass, step % kBatches, scale);
    backward(ce.loss);
    run.losses.push_back(ce.loss_sum * scale);
    for (size_t i = 0; i < at.size(); ++i) {
      Parameter& p = *subject.parameters[i];
      if (!p.trainable()) continue;
      const Values gradient = p.grad().values();
      for (size_t e = 0; e < gradient.size(); ++e) {
        velocity[i][e] = 0.9 * velocity[i][e] + gradient[e];
        at[i][e] -= 0.03 * velocity[i][e];
      }
      p.set_value(Tensor::from(p.shape(), at[i], masters));
      p.zero_grad();
    }
    if (step == 0) run.first = from_start();
  }
  run.moved = from_start();
  return run;
}

// The kernels of a process are chosen once, so the plain run is another process's: this program's, called
// with QKV_ISA=ref and these.
constexpr const char *kModel = "QKV_TEST_MODEL", *kDtype = "QKV_TEST_DTYPE", *kOut = "QKV_TEST_OUT";
struct Family {
  const char* name;
  MakeSubject make;
} const kFamilies[] = {{"transformer", transformer}, {"gpt2", gpt2}, {"bert", bert}};

TEST(PlainTraining, DISABLED_WritesItsTrajectory) {
  const char* model = std::getenv(kModel);
  if (model == nullptr) GTEST_SKIP() << "plain_run() calls this";
  for (const Family& family : kFamilies) {
    if (family.name != std::string_view(model)) continue;
    const Trajectory run = train(family.make, dtype_from_name(std::getenv(kDtype)), true);
    std::ofstream out(std::getenv(kOut), std::ios::binary);
    const auto write = [&](const Values& x) {
      out.write(reinterpret_cast<const char*>(x.data()),
                static_cast<std::streamsize>(x.size() * sizeof(double)));
    };
    write(run.losses);
    for (const auto* moved : {&run.first, &run.moved})
      for (const Values& x : *moved) write(x);
  }
}

Trajectory plain_run(const Family& family, DType dtype, const Trajectory& like) {
  const io::testing::TemporaryFolder folder;
  const std::string out = folder.path() + "/run";
  const std::string command = fmt::format(
      "QKV_ISA=ref QKV_THREADS=1 {}={} {}={} {}={} '{}' "
      "--gtest_filter=PlainTraining.DISABLED_WritesItsTrajectory "
      "--gtest_also_run_disabled_tests > /dev/null",
      kModel, family.name, kDtype, name(dtype), kOut, out,
      std::filesystem::read_symlink("/proc/self/exe").string());
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
  Trajectory run = like;
  std::ifstream in(out, std::ios::binary);
  const auto read = [&](Values& x) {
    in.read(reinterpret_cast<char*>(x.data()), static_cast<std::streamsize>(x.size() * sizeof(double)));
  };
  read(run.losses);
  for (auto* moved : {&run.first, &run.moved})
    for (Values& x : *moved) read(x);
  EXPECT_TRUE(in.good() && in.peek() == EOF) << out;
  return run;
}

double most_apart(const Values& a, const Values& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i])) return a[i];
    most = std::max(most, std::abs(a[i] - b[i]));
  }
  return most;
}
// The root of the sum of squared differences; without b, of squares.
double distance(const Values& a, const Values& b = {}) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(a[i] - (b.empty() ? 0 : b[i]), 2);
  return std::sqrt(sum);
}
Values joined(const std::vector<Values>& all) {
  Values one;
  for (const Values& x : all) one.insert(one.end(), x.begin(), x.end());
  return one;
}

// Each parameter's way; what is allowed: so many times what the plain one is off, and a share of the way.
void expect_near(const std::vector<Values>& fast, const std::vector<Values>& plain,
                 const std::vector<Values>& exact, double times, double share,
                 const std::vector<ParameterPtr>& parameters, const std::string& when) {
  const Values all = joined(exact);
  const double usual = distance(all) / std::sqrt(static_cast<double>(all.size()));
  for (size_t i = 0; i < exact.size(); ++i) {
    double size = distance(exact[i]);
    // Keys' biases shift all scores of a query alike, which softmax does not see: their gradients are
    // rounding.
    if (size < 1e-12) size = usual * std::sqrt(static_cast<double>(exact[i].size()));
    EXPECT_LE(distance(fast[i], exact[i]), times * distance(plain[i], exact[i]) + share * size)
        << parameters[i]->name() << ", which has moved by " << size << ", " << when;
  }
}

class FusedTraining : public testing::TestWithParam<Family> {};

TEST_P(FusedTraining, IsAsNearToTheExactOneAsThePlain) {
  if (isa() == Isa::kRef) GTEST_SKIP() << "these are the kernels that others are compared with";
  const int before = threads();
  set_threads(1);  // products so small that threads would wait for one another
  const Family& family = GetParam();
  const Trajectory exact = train(family.make, DType::kF64, true);
  EXPECT_LT(exact.losses.back(), exact.losses.front() - 0.5);
  const std::vector<ParameterPtr> parameters = family.make(DType::kF32, "scaled_dot").parameters;
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const double rounding = dtype == DType::kF32 ? 0x1p-24 : 0x1p-9, loss = exact.losses.front();
    const Trajectory fast = train(family.make, dtype, false), plain = plain_run(family, dtype, exact);
    const std::string what = fmt::format("{} {}", family.name, name(dtype));
    const double apart = most_apart(fast.losses, exact.losses),
                 plain_apart = most_apart(plain.losses, exact.losses);
    EXPECT_LE(apart, 2 * plain_apart + rounding * loss) << what;
    EXPECT_LE(apart, 4 * rounding * loss) << what;
    expect_near(fast.first, plain.first, exact.first, 2, rounding, parameters, what + " after a step");
    // 24 steps on, what was a difference at first has grown one way or another.
    expect_near(fast.moved, plain.moved, exact.moved, 3, 4 * rounding, parameters, what + " at the end");
    const double way = distance(joined(exact.moved)),
                 off = distance(joined(fast.moved), joined(exact.moved)) / way,
                 plain_off = distance(joined(plain.moved), joined(exact.moved)) / way;
    // As much as a rounding of every step would add up to, none taking back another.
    EXPECT_LE(off, static_cast<double>(kSteps) * rounding) << what;
    fmt::print(
        "{}: loss {:.3f} -> {:.3f}, apart from f64 by at most {:.2g} (plain {:.2g}); weights by {:.2g} of "
        "their way (plain {:.2g})\n",
        what, exact.losses.front(), exact.losses.back(), apart, plain_apart, off, plain_off);
  }
  set_threads(before);
}

INSTANTIATE_TEST_SUITE_P(, FusedTraining, testing::ValuesIn(kFamilies),
                         [](const auto& family) { return std::string(family.param.name); });

}  // namespace
}  // namespace qkv
