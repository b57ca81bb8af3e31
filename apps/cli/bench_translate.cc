#include "apps/cli/bench_translate.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "apps/cli/bench_shapes.h"
#include "apps/cli/bench_timing.h"
#include "qkv/autograd/gradcheck.h"
#include "qkv/base/philox.h"
#include "qkv/decode/beam.h"
#include "qkv/tasks/transformer_step_model.h"
#include "qkv/tasks/translator.h"
#include "qkv/text/line_reader.h"

namespace qkv::cli {
namespace {

const std::vector<std::pair<std::string, ModelShape>> kCases = {{"base-6+6x512-32k", kBaseTransformer},
                                                                {"small-3+3x256-8k", kSmallTransformer}};
constexpr int64_t kTokens = 32;  // of each source and of each translation, the source's end token counted

// What is timed: a run translates the sentences and hands over the best hypothesis of each.
struct Subject {
  int64_t sentences = 0;
  std::function<std::vector<std::vector<int32_t>>()> run;
};

Subject of_files(const BenchTranslate& b, const Precision& precision) {
  TranslateOptions options{.precision = precision, .batch_sentences = b.batch};
  options.search.beam_size = b.beam;
  const auto translator = std::make_shared<Translator>(TranslationModel::load(b.model, precision), options);
  const std::vector<std::string> lines = read_lines(b.input);
  return {.sentences = static_cast<int64_t>(lines.size()), .run = [translator, lines] {
            std::vector<std::vector<int32_t>> written;
            for (const Translation& t : translator->translate(lines))
              if (!t.n_best.empty()) written.push_back(t.n_best[0].hypothesis.ids);
            return written;
          }};
}

// Weights with which the source decides on the next word. With fresh ones (all of gain 1) the loop of the
// decoder settles, and 64 sentences are made of three words; so cross-attention is loud here, the rest quiet.
ParameterStart talking_weights(const Precision& precision) {
  const auto draw = [seed = uint64_t{0}](const std::string& name, const Shape& shape) mutable {
    const auto of = [&name](const char* part) { return name.find(part) != std::string::npos; };
    if (!of(".weight") || of("layer_norm")) {  // biases; and gains of norms
      const Tensor constant = Tensor::empty(shape, DType::kF32);
      constant.fill(of(".weight") ? 1 : 0);
      return constant;
    }
    const double gain = of("shared") ? 1 : of("encoder_attn") ? 3 : 0.5;
    return random_tensor(shape, ++seed, DType::kF32, gain / std::sqrt(static_cast<double>(shape[1])));
  };
  return {draw, precision};
}

Subject of_case(const BenchTranslate& b, const Precision& precision) {
  const auto found =
      std::find_if(kCases.begin(), kCases.end(), [&](const auto& c) { return c.first == b.name; });
  if (found == kCases.end()) {
    std::vector<std::string> names;
    for (const auto& [name, shape] : kCases) names.push_back(name);
    throw_error(ErrorCode::kValue, "bench translate: no case is called '{}'; there are {}", b.name,
                fmt::join(names, ", "));
  }
  const TransformerConfig config = transformer_config(found->second, 2 * kTokens);
  const auto model = std::make_shared<Transformer>(config, talking_weights(precision));

  RandomStream random({.seed = 1});
  const int32_t first_word = std::max(config.pad_id, config.eos_id) + 1;
  std::vector<std::vector<int32_t>> sources(static_cast<size_t>(std::max<int64_t>(2 * b.batch, 16)));
  for (std::vector<int32_t>& ids : sources) {
    for (int64_t i = 1; i < kTokens; ++i)
      ids.push_back(first_word + static_cast<int32_t>(
                                     random.below(static_cast<uint64_t>(config.vocab_size - first_word))));
    ids.push_back(config.eos_id);
  }
  const decode::SearchOptions search{.start_id = config.start_id,
                                     .eos_id = config.eos_id,
                                     .pad_id = config.pad_id,
                                     .beam_size = b.beam,
                                     .min_length = kTokens - 1,
                                     .max_length = kTokens};
  return {.sentences = static_cast<int64_t>(sources.size()),
          .run = [model, sources, search, batch = b.batch, dtype = precision.dtype] {
            std::vector<std::vector<int32_t>> written;
            for (auto begin = sources.begin(); begin != sources.end();) {
              const auto end = begin + std::min<int64_t>(batch, sources.end() - begin);
              TransformerStepModel steps(*model, {begin, end}, dtype);
              for (const decode::NBest& n_best : decode::beam_search(steps, search))
                written.push_back(n_best.at(0).ids);
              begin = end;
            }
            return written;
          }};
}

}  // namespace

void bench_translate(const BenchTranslate& b, const Precision& precision, bool json) {
  QKV_CHECK(!b.name.empty() || (!b.model.empty() && !b.input.empty()), kValue,
            "bench translate: needs --case NAME for random weights, or --model and --input");
  const Subject subject = b.name.empty() ? of_files(b, precision) : of_case(b, precision);
  std::vector<std::vector<int32_t>> written;
  const Timing timing = timed([&] { written = subject.run(); }, b.reps, 1, 300);
  int64_t tokens = 0;
  std::set<int32_t> words;
  for (const std::vector<int32_t>& ids : written) {
    tokens += static_cast<int64_t>(ids.size());
    words.insert(ids.begin(), ids.end());
  }
  QKV_CHECK(tokens > 0, kValue, "bench translate: {} has no word to translate", b.input);
  const double sentences = static_cast<double>(subject.sentences);
  print_case({.name = fmt::format("translate {}{}beam {} batch {} {}", b.name, b.name.empty() ? "" : " ",
                                  b.beam, b.batch, name(precision)),
              .shape = fmt::format("{}x{}", b.batch, b.beam),
              .precision = precision,
              .unit = "tok_s",
              .work = static_cast<double>(tokens),
              .more = {{"sentences", subject.sentences},
                       {"target_tokens", tokens},
                       {"distinct_tokens", words.size()},
                       {"sentences_s_best", sentences / timing.min_s},
                       {"sentences_s_med", sentences / timing.med_s},
                       {"gflops_best", std::round(timing.flops / timing.min_s / 1e8) / 10},
                       {"gflops_med", std::round(timing.flops / timing.med_s / 1e8) / 10}}},
             timing, json);
}

}  // namespace qkv::cli
