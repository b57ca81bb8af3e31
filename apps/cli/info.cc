#include "apps/cli/info.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <memory>

#include "apps/cli/output.h"
#include "qkv/io/file.h"
#include "qkv/io/json.h"
#include "qkv/io/safetensors.h"
#include "qkv/nn/activation.h"
#include "qkv/tasks/translation_model.h"

namespace qkv::cli {
namespace {

// bf16, as everywhere else, not BF16 as in the file.
std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

void run(const std::string& given, bool json, bool tensors) {
  const std::string dir = resolve_model_directory(given);
  const TranslationModel model = TranslationModel::load(dir);
  const TransformerConfig& c = model.transformer->config();
  const std::string weights = dir + "/model.safetensors";
  const auto file = io::SafetensorsFile::open(weights);
  const int64_t bytes = io::file_size(weights), parameters = model.transformer->parameters().numel();
  const std::string dtype = file.tensors().empty() ? "" : lower_case(file.tensors().front().dtype);
  if (json) {
    io::Json out = {{"directory", dir},
                    {"config", to_json(c)},
                    {"parameters", parameters},
                    {"bytes", bytes},
                    {"dtype", dtype}};
    for (const auto& t : file.tensors())
      if (tensors)
        out["tensors"].push_back({{"name", t.name}, {"dtype", lower_case(t.dtype)}, {"shape", t.shape}});
    print("{}\n", io::dump_json(out));
    return;
  }
  print("{}\n", dir);
  print("  encoder-decoder Transformer, {}-norm, {} positions (model_type {})\n", c.pre_norm ? "pre" : "post",
        c.positions == "none" ? "no added" : c.positions, public_model_type(c));
  print("  {} + {} layers, d_model {}, {} heads of d_k {} and d_v {}, d_ff {}, {}\n", c.encoder_layers,
        c.decoder_layers, c.d_model, c.n_heads, c.key_width(), c.value_width(), c.d_ff,
        activation_name(c.activation));
  print("  attention: encoder {}, decoder {}, cross {}\n", c.encoder_attention, c.decoder_attention,
        c.cross_attention);
  print("  vocabulary: {}\n",
        c.shared_vocab() ? fmt::format("{} entries, joint", c.vocab_size)
                         : fmt::format("{} source, {} target entries", c.source_vocab(), c.target_vocab()));
  print("  {:.2f} M parameters, {:.1f} MB of weights as {}\n", static_cast<double>(parameters) / 1e6,
        static_cast<double>(bytes) / 1e6, dtype.empty() ? "nothing" : dtype);
  if (tensors)
    for (const auto& t : file.tensors())
      print("  {:60} {:5} {}\n", t.name, lower_case(t.dtype), Shape{std::span<const int64_t>(t.shape)}.str());
}

}  // namespace

void add_info_command(CLI::App& app) {
  struct Flags {
    std::string model;
    bool json = false, tensors = false;
  };
  CLI::App* info = app.add_subcommand("info", "what a model directory holds");
  auto flags = std::make_shared<Flags>();
  info->add_option("model", flags->model, "model or run directory")->required();
  info->add_flag("--tensors", flags->tensors, "list every tensor");
  info->add_flag("--json", flags->json, "one JSON object");
  info->footer("Example:\n  qkv info models/en-de --tensors");
  info->callback([flags] { run(flags->model, flags->json, flags->tensors); });
}

}  // namespace qkv::cli
