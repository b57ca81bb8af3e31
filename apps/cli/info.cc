#include "apps/cli/info.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <map>
#include <memory>

#include "apps/cli/bench_timing.h"
#include "apps/cli/output.h"
#include "qkv/io/file.h"
#include "qkv/io/json.h"
#include "qkv/io/safetensors.h"
#include "qkv/models/bert_files.h"
#include "qkv/models/gpt2_files.h"
#include "qkv/models/model_files.h"
#include "qkv/nn/activation.h"
#include "qkv/tasks/language_models.h"
#include "qkv/tasks/model_directory.h"
#include "qkv/tasks/translation_model.h"

namespace qkv::cli {
namespace {

// bf16, as everywhere else, not BF16 as in the file.
std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// "bf16", or "i8 + bf16" of a model in 8 bits: those that take a hundredth of the bytes, most first.
std::string dtypes_of(const io::SafetensorsFile& file) {
  std::map<std::string, size_t> bytes;
  size_t all = 0;
  for (const auto& t : file.tensors()) bytes[lower_case(t.dtype)] += t.data.size(), all += t.data.size();
  std::vector<std::pair<size_t, std::string>> sorted;
  for (const auto& [dtype, n] : bytes)
    if (100 * n >= all) sorted.emplace_back(n, dtype);
  std::sort(sorted.rbegin(), sorted.rend());
  std::string text;
  for (const auto& [n, dtype] : sorted) text += (text.empty() ? "" : " + ") + dtype;
  return text;
}

// What there is to say of a model besides its tensors.
struct Description {
  io::Json config;
  int64_t parameters = 0;
  std::vector<std::string> lines;
};

std::string positions_text(const std::string& word) { return word == "none" ? "no added" : word; }

Description describe(const Transformer& model) {
  const TransformerConfig& c = model.config();
  return {
      .config = to_json(c),
      .parameters = model.parameters().numel(),
      .lines = {fmt::format("encoder-decoder Transformer, {}-norm, {} positions (model_type {})",
                            c.pre_norm ? "pre" : "post", positions_text(c.positions), public_model_type(c)),
                fmt::format("{} + {} layers, d_model {}, {} heads of d_k {} and d_v {}, d_ff {}, {}",
                            c.encoder_layers, c.decoder_layers, c.d_model, c.n_heads, c.key_width(),
                            c.value_width(), c.d_ff, activation_name(c.activation)),
                fmt::format("attention: encoder {}, decoder {}, cross {}", c.encoder_attention,
                            c.decoder_attention, c.cross_attention),
                "vocabulary: " + (c.shared_vocab() ? fmt::format("{} entries, joint", c.vocab_size)
                                                   : fmt::format("{} source, {} target entries",
                                                                 c.source_vocab(), c.target_vocab()))}};
}

// Gpt2 and Bert: one stack.
template <class Model>
Description describe_stack(const Model& model, const std::string& kind) {
  const auto& c = model.config();
  return {
      .config = to_json(c),
      .parameters = model.parameters().numel(),
      .lines = {fmt::format("{}, {} positions (model_type {})", kind, positions_text(c.positions),
                            public_model_type(c)),
                fmt::format("{} layers, d_model {}, {} heads of d_k {} and d_v {}, d_ff {}, {}", c.n_layers,
                            c.d_model, c.n_heads, c.key_width(), c.value_width(), c.d_ff,
                            activation_name(c.activation)),
                "attention: " + c.attention,
                fmt::format("vocabulary: {} entries; texts of up to {} tokens", c.vocab_size, c.max_len)}};
}

// As a program that runs it loads it.
Description describe(const std::string& dir, const Precision& precision) {
  const std::string type = io::get_string(read_model_config(dir), "model_type", config_path(dir));
  if (type == "gpt2" || type == "qkv_gpt2")
    return describe_stack(*LanguageModel::load(dir, precision).gpt2, "decoder (GPT-2), pre-norm");
  if (type == "bert" || type == "qkv_bert") {
    const auto model = MaskedLanguageModel::load(dir, precision).bert;
    return describe_stack(*model, fmt::format("encoder (BERT), post-norm{}{}",
                                              model->config().masked_lm ? ", predicts hidden words" : "",
                                              model->config().pooler ? ", pools" : ""));
  }
  return describe(*TranslationModel::load(dir, precision).transformer);
}

void run(const std::string& given, bool json, bool tensors, bool load, const Precision& precision) {
  const std::string dir = resolve_model_directory(given);
  const double before = peak_rss_mb();
  const auto start = std::chrono::steady_clock::now();
  const Description model = describe(dir, precision);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
               after = peak_rss_mb();
  const std::string weights = dir + "/model.safetensors";
  const auto file = io::SafetensorsFile::open(weights);
  const int64_t bytes = io::file_size(weights);
  const std::string dtype = dtypes_of(file);
  if (json) {
    io::Json out = {{"directory", dir},
                    {"config", model.config},
                    {"parameters", model.parameters},
                    {"bytes", bytes},
                    {"dtype", dtype}};
    if (load)
      out["load"] = {
          {"dtype", name(precision)}, {"seconds", seconds}, {"mb_before", before}, {"peak_mb", after}};
    for (const auto& t : file.tensors())
      if (tensors)
        out["tensors"].push_back({{"name", t.name}, {"dtype", lower_case(t.dtype)}, {"shape", t.shape}});
    print("{}\n", io::dump_json(out));
    return;
  }
  print("{}\n", dir);
  for (const std::string& line : model.lines) print("  {}\n", line);
  print("  {:.2f} M parameters, {:.1f} MB of weights as {}\n", static_cast<double>(model.parameters) / 1e6,
        static_cast<double>(bytes) / 1e6, dtype.empty() ? "nothing" : dtype);
  if (load)
    print("  loads for {} in {:.0f} ms; the process takes {:.0f} MB at most, {:.0f} before\n",
          name(precision), 1e3 * seconds, after, before);
  if (tensors)
    for (const auto& t : file.tensors())
      print("  {:60} {:5} {}\n", t.name, lower_case(t.dtype), Shape{std::span<const int64_t>(t.shape)}.str());
}

}  // namespace

void add_info_command(CLI::App& app) {
  struct Flags {
    std::string model, dtype = "auto";
    bool json = false, tensors = false, load = false;
  };
  CLI::App* info = app.add_subcommand("info", "what a model directory holds");
  auto flags = std::make_shared<Flags>();
  info->add_option("model", flags->model, "model or run directory")->required();
  info->add_flag("--tensors", flags->tensors, "list every tensor");
  info->add_flag("--load", flags->load, "how long loading takes, and what memory");
  info->add_option("--dtype", flags->dtype, "to load it for: bf16, f32, int8, auto")->capture_default_str();
  info->add_flag("--json", flags->json, "one JSON object");
  info->footer("Example:\n  qkv info models/en-de --tensors\n  qkv info models/en-de --load --dtype int8");
  info->callback([flags] {
    run(flags->model, flags->json, flags->tensors, flags->load, precision_for(flags->dtype, flags->model));
  });
}

}  // namespace qkv::cli
