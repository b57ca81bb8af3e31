// What a recording (base/trace.h) of a real model holds.

#include "qkv/base/trace.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "qkv/autograd/ops/cross_entropy.h"
#include "qkv/base/parallel.h"
#include "qkv/models/gpt2.h"
#include "qkv/models/transformer.h"
#include "qkv/tensor/matmul.h"

namespace qkv {
namespace {

using trace::Event;
using trace::Kind;
using trace::Recording;

const std::vector<int32_t> kIds = {3, 4, 5, 1, 6, 7, 1};
const Segments kRows({4, 3});

double train_a_step(const Transformer& model) {
  Pass pass = Pass::training(DType::kF32, 1, 1);
  const Var hidden = model.decode(pass, kIds, kRows, model.encode(pass, kIds, kRows), kRows);
  const CrossEntropy ce = cross_entropy(hidden, model.output_weight(), model.output_bias(), kIds, 0.1, 1);
  backward(ce.loss);
  return ce.loss_sum;
}

std::map<std::string, int> count(const Recording& r, Kind kind) {
  std::map<std::string, int> names;
  for (const Event& e : r.events)
    if (e.kind == kind) ++names[e.name];
  return names;
}

// Calls inside(child, parent) for each span that lies in another of its thread; returns those that lie in
// none.
template <class F>
std::vector<Event> walk(const Recording& r, F&& inside) {
  std::vector<Event> outermost, around;
  for (const Event& e : r.events) {
    while (!around.empty() && (around.back().thread != e.thread || around.back().end_ns <= e.begin_ns))
      around.pop_back();
    if (around.empty())
      outermost.push_back(e);
    else
      inside(e, around.back());
    around.push_back(e);
  }
  return outermost;
}

const TransformerConfig kConfig = {.vocab_size = 11,
                                   .d_model = 8,
                                   .d_ff = 12,
                                   .encoder_layers = 2,
                                   .decoder_layers = 2,
                                   .n_heads = 2,
                                   .max_len = 32,
                                   .dropout = 0.1};

TEST(TraceOfAStep, SpansLieWithinOneAnotherAndTheirTimesAndWorkAddUp) {
  const Transformer model(kConfig, 1);
  trace::start();
  const int64_t flops_before = flop_count();
  train_a_step(model);
  const int64_t flops = flop_count() - flops_before;
  const Recording r = trace::stop();

  std::map<std::pair<int64_t, int>, int64_t> time_within;  // of a span, by beginning and thread
  const std::vector<Event> outermost = walk(r, [&](const Event& child, const Event& parent) {
    EXPECT_LE(child.end_ns, parent.end_ns) << child.name << " outlives " << parent.name;
    EXPECT_LE(child.flops, parent.flops);
    time_within[{parent.begin_ns, parent.thread}] += child.end_ns - child.begin_ns;
  });
  for (const Event& e : r.events)
    EXPECT_LE((time_within[{e.begin_ns, e.thread}]), e.end_ns - e.begin_ns) << e.name;
  std::vector<std::string> phases;
  int64_t recorded = 0;
  for (const Event& e : outermost) {
    if (e.thread == 0) phases.push_back(e.name);
    recorded += e.flops;
  }
  EXPECT_EQ(phases, (std::vector<std::string>{"encode", "decode", "cross_entropy", "backward"}));
  EXPECT_EQ(recorded, flops);
  EXPECT_GT(flops, 0);
}

TEST(TraceOfAStep, EveryOperationIsThereByNameForwardAndBackward) {
  const Transformer model(kConfig, 1);
  trace::start();
  train_a_step(model);
  const Recording r = trace::stop();
  // 2 + 2 layers: 2 and 3 sub-layers' norms and residuals; 2 products of each of 4 self-attentions (queries,
  // keys and values are one, split), 3 of each of 2 cross-attentions; 4 feed-forwards, 2 products each.
  std::map<std::string, int> expected = {{"embedding", 2},     {"dropout", 2},      {"linear", 14},
                                         {"attention", 6},     {"add_dropout", 10}, {"layer_norm", 10},
                                         {"cross_entropy", 1}, {"split", 6},        {"feed_forward", 4}};
  EXPECT_EQ(count(r, Kind::kOp), expected);
  expected["split"] = 4 * (3 + 1) + 2 * (2 + 1);  // each part's gradient, and the whole's
  EXPECT_EQ(count(r, Kind::kBackward), expected);
  std::map<std::string, int> kernels = count(r, Kind::kKernel);
  EXPECT_EQ(kernels["matmul"], 2 * (22 + 1)) << "forward, and the gradients of the inputs";
  EXPECT_EQ(kernels["weight_grad"], 22 + 1);
  std::set<std::string> weights;
  for (const Event& e : r.events) {
    if (e.kind != Kind::kOp) continue;
    EXPECT_EQ(e.bytes > 0, std::string(e.name) != "split") << e.name << "; a view moves nothing";
    if (std::string(e.name) == "linear" || std::string(e.name) == "feed_forward") weights.insert(e.note);
  }
  EXPECT_EQ(weights.size(), 14u + 4u) << "each says whose it is";
  EXPECT_TRUE(weights.contains("model.encoder.layers.0.fc1.weight"));
}

TEST(TraceOfAStep, RecordingChangesNoBit) {
  const Transformer model(kConfig, 1);
  const double without = train_a_step(model);
  trace::start();
  const double with = train_a_step(model);
  trace::stop();
  EXPECT_EQ(without, with);
}

// A step of decoding does not touch the tape; products and attention are seen all the same.
TEST(TraceOfAStep, DecodingIsSeenWithoutATape) {
  const Transformer model(kConfig, 1);
  const NoGrad off;
  Pass pass = Pass::running(DType::kF32);
  DecoderState state = model.start(pass, model.encode(pass, kIds, kRows), kRows);
  trace::start();
  model.logits(model.step(pass, {0, 0}, state));
  const Recording r = trace::stop();
  std::map<std::string, int> ops = count(r, Kind::kOp);
  EXPECT_EQ(ops["attention"], 4);
  for (const Event& e : r.events)
    if (std::string(e.name) == "attention" && e.kind == Kind::kOp) {
      EXPECT_GT(e.flops, 0);
      EXPECT_GT(e.bytes, 0);
    }
  EXPECT_EQ(ops["linear"], 2 * (2 + 2));
  EXPECT_EQ(ops["feed_forward"], 2);
  EXPECT_TRUE(count(r, Kind::kBackward).empty());
}

}  // namespace
}  // namespace qkv
