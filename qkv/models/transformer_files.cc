#include "qkv/models/transformer_files.h"

#include <set>

#include "qkv/base/quote.h"
#include "qkv/io/atomic_file.h"
#include "qkv/io/file.h"
#include "qkv/io/safetensors.h"

namespace qkv {
namespace {

// What published files of these architectures hold besides parameters: other names of the tied embedding, and
// sinusoids.
const std::set<std::string>& known_extras() {
  static const std::set<std::string> names = {
      "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight",
      "model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"};
  return names;
}

}  // namespace

void save_transformer(const Transformer& model, const std::string& dir, DType dtype) {
  QKV_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, kDtype, "save: weights are f32 or bf16, not {}",
            name(dtype));
  io::make_directories(dir);
  std::vector<io::SafetensorsTensor> tensors;
  std::vector<Tensor> kept;
  for (const ParameterPtr& p : model.parameters().all()) {
    const Tensor t = p->value().to(dtype);
    kept.push_back(t);
    tensors.push_back({.name = p->name(),
                       .dtype = std::string(io::safetensors_dtype(dtype)),
                       .shape = {t.shape().sizes().begin(), t.shape().sizes().end()},
                       .data = {t.bytes(), static_cast<size_t>(t.n_bytes())}});
  }
  io::write_safetensors(dir + "/model.safetensors", tensors, {{"format", "pt"}});
  io::Json config = to_json(model.config());
  config["torch_dtype"] = dtype == DType::kF32 ? "float32" : "bfloat16";
  io::write_file_atomically(dir + "/config.json", io::dump_json(config, 2) + "\n");
}

TransformerConfig load_transformer_config(const std::string& dir) {
  QKV_CHECK(io::is_directory(dir), kIo,
            "{}: {}; a model is a directory with config.json, model.safetensors and tokenizer.json",
            escape(dir, 4096), io::exists(dir) ? "not a directory" : "no such directory");
  const std::string config_path = dir + "/config.json";
  (void)io::file_size(config_path);  // a pipe by that name would wait for its writer
  return transformer_config_from_json(io::read_json(config_path), config_path);
}

std::unique_ptr<Transformer> load_transformer(const std::string& dir) {
  return load_transformer(dir, load_transformer_config(dir));
}

std::unique_ptr<Transformer> load_transformer(const std::string& dir, const TransformerConfig& config) {
  const auto file = io::SafetensorsFile::open(dir + "/model.safetensors");

  std::set<std::string> used;
  const ParameterReader read = [&](const std::string& name, const Shape& shape) {
    const io::SafetensorsTensor& saved = file.at(name);
    const Shape there{std::span<const int64_t>(saved.shape)};
    QKV_CHECK(there == shape, kFormat, "{}: {} is {}, config.json makes it {}", file.path(), name,
              there.str(), shape.str());
    const Tensor value = Tensor::empty(shape, DType::kF32);
    try {
      io::copy_to_f32(saved, {value.data<float>(), static_cast<size_t>(value.numel())});
    } catch (const Error& e) {
      throw Error(e.code(), fmt::format("{}: {}", file.path(), e.what()));
    }
    used.insert(name);
    return value;
  };
  auto model = std::make_unique<Transformer>(config, read);
  for (const io::SafetensorsTensor& t : file.tensors())
    QKV_CHECK(used.contains(t.name) || known_extras().contains(t.name), kFormat,
              "{}: tensor {} has no place in the model that config.json describes", escape(file.path(), 4096),
              quote(t.name));
  return model;
}

}  // namespace qkv
