#include "apps/cli/bench_train.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>

#include "apps/cli/bench_shapes.h"
#include "apps/cli/bench_timing.h"
#include "qkv/autograd/ops/cross_entropy.h"
#include "qkv/base/philox.h"
#include "qkv/models/bert.h"
#include "qkv/models/gpt2.h"
#include "qkv/models/transformer.h"
#include "qkv/train/optimizers/adamw.h"

namespace qkv::cli {
namespace {

enum class Kind { kGpt, kBert, kTranslation };
struct Case {
  const char* name;
  Kind kind;
  ModelShape shape;
  int64_t context, batch;
};
constexpr Case kCases[] = {
    {"gpt-char-2x128", Kind::kGpt, {2, 128, 4, 512, 96}, 128, 32},
    {"gpt-6x384-8k", Kind::kGpt, {6, 384, 6, 1536, 8192}, 256, 32},
    {"gpt2-124m-ctx1024-b1", Kind::kGpt, {12, 768, 12, 3072, 50257}, 1024, 1},
    {"gpt2-124m-ctx64-b4", Kind::kGpt, {12, 768, 12, 3072, 50257}, 64, 4},
    {"nmt-3+3x256-8k", Kind::kTranslation, kSmallTransformer, 32, 128},
    {"bert-base-s128-b16", Kind::kBert, {12, 768, 12, 3072, 30522}, 128, 16},
};

std::vector<int32_t> random_ids(int64_t n, int64_t vocab, uint32_t stream) {
  RandomStream random({.seed = 1, .stream = stream});
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (int32_t& id : ids) id = static_cast<int32_t>(random.below(static_cast<uint64_t>(vocab)));
  return ids;
}

// A model and one batch: run(pass) is forward and backward, returning the loss per token.
struct Subject {
  std::shared_ptr<Transformer> transformer;
  std::shared_ptr<Gpt2> gpt2;
  std::shared_ptr<Bert> bert;
  const ParameterSet& parameters() const {
    return transformer ? transformer->parameters() : gpt2 ? gpt2->parameters() : bert->parameters();
  }
};

Subject make(const Case& c) {
  Subject s;
  const ModelShape& m = c.shape;
  if (c.kind == Kind::kTranslation)
    s.transformer = std::make_shared<Transformer>(transformer_config(m, c.context), 1);
  else if (c.kind == Kind::kBert)
    s.bert = std::make_shared<Bert>(BertConfig{.vocab_size = m.vocab,
                                               .max_len = c.context,
                                               .d_model = m.d_model,
                                               .n_layers = m.layers,
                                               .n_heads = m.heads,
                                               .d_ff = m.d_ff,
                                               .dropout = 0,
                                               .attention_dropout = 0},
                                    1);
  else
    s.gpt2 = std::make_shared<Gpt2>(Gpt2Config{.vocab_size = m.vocab,
                                               .max_len = c.context,
                                               .d_model = m.d_model,
                                               .n_layers = m.layers,
                                               .n_heads = m.heads,
                                               .d_ff = m.d_ff,
                                               .activation = Activation::kGelu,
                                               .dropout = 0},
                                    1);
  return s;
}

double step(const Subject& s, Pass& pass, const std::vector<int32_t>& x, const std::vector<int32_t>& y,
            const Segments& rows) {
  const double scale = 1 / static_cast<double>(x.size());
  CrossEntropy ce;
  if (s.transformer) {
    const Var hidden = s.transformer->decode(pass, x, rows, s.transformer->encode(pass, x, rows), rows);
    ce = cross_entropy(hidden, s.transformer->output_weight(), nullptr, y, 0, scale);
  } else if (s.bert) {  // every row is asked for, as the peer's script does
    ce = cross_entropy(s.bert->predict((*s.bert)(pass, x, rows)), s.bert->output_weight(),
                       s.bert->output_bias(), y, 0, scale);
  } else {
    ce = cross_entropy((*s.gpt2)(pass, x, rows), s.gpt2->embedding(), nullptr, y, 0, scale);
  }
  backward(ce.loss);
  return ce.loss_sum * scale;
}

}  // namespace

std::vector<std::string> bench_train_cases() {
  std::vector<std::string> names;
  for (const Case& c : kCases) names.emplace_back(c.name);
  return names;
}

void bench_train(const std::string& name, DType dtype, bool gradient_checkpointing, bool json) {
  const auto c =
      std::find_if(std::begin(kCases), std::end(kCases), [&](const Case& each) { return name == each.name; });
  QKV_CHECK(c != std::end(kCases), kValue, "bench train: no case is called '{}'; there are {}", name,
            fmt::join(bench_train_cases(), ", "));
  const Subject subject = make(*c);
  AdamW optimizer(subject.parameters().all(),
                  {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01});
  const int64_t tokens = c->batch * c->context;
  const std::vector<int32_t> x = random_ids(tokens, c->shape.vocab, 1),
                             y = random_ids(tokens, c->shape.vocab, 2);
  const Segments rows(std::vector<int64_t>(static_cast<size_t>(c->batch), c->context));
  std::vector<double> losses;
  uint32_t number = 0;
  const Timing timing = timed(
      [&] {
        Pass pass = Pass::training(dtype, 1, number++).with_gradient_checkpointing(gradient_checkpointing);
        losses.push_back(step(subject, pass, x, y, rows));
        optimizer.step(1e-4, 1);
      },
      5, 2, 90);

  // Floating-point operations of products a token: 6 for each weight that multiplies (the tied output layer
  // counts, position tables do not), 12 n_layers context d_model for attention, and three times that with a
  // decoder's two attentions.
  static const std::set<std::string> looked_up = {"wpe.weight", "bert.embeddings.position_embeddings.weight",
                                                  "bert.embeddings.token_type_embeddings.weight",
                                                  "final_logits_bias"};
  int64_t weights = 0;
  for (const ParameterPtr& p : subject.parameters().all())
    if (!looked_up.contains(p->name())) weights += p->value().numel();
  const double attention = 12.0 * static_cast<double>(c->shape.layers * c->context * c->shape.d_model) *
                           (c->kind == Kind::kTranslation ? 3 : 1);
  const double flops = (6.0 * static_cast<double>(weights) + attention) * static_cast<double>(tokens);
  print_case({.name = fmt::format("train {} {}{}", name, qkv::name(dtype),
                                  gradient_checkpointing ? " gradient_checkpointing" : ""),
              .shape = fmt::format("{}x{}", c->batch, c->context),
              .precision = dtype,
              .unit = "tok_s",
              .work = static_cast<double>(tokens),
              .more = {{"params", subject.parameters().numel()},
                       {"gflops_best", std::round(flops / timing.min_s / 1e8) / 10},
                       {"gflops_med", std::round(flops / timing.med_s / 1e8) / 10},
                       {"loss0", std::round(losses.front() * 1e3) / 1e3},
                       {"loss_last", std::round(losses.back() * 1e3) / 1e3}}},
             timing, json);
}

}  // namespace qkv::cli
