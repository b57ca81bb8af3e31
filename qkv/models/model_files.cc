#include "qkv/models/model_files.h"

#include <map>

#include "qkv/base/quote.h"
#include "qkv/io/atomic_file.h"
#include "qkv/io/file.h"

namespace qkv {
namespace {

constexpr int64_t kPathInMessage = 4096;

TensorPlace place_in(const FileLayout& layout, const std::string& parameter) {
  return layout.place ? layout.place(parameter) : TensorPlace{.tensor = parameter};
}

Shape turned(const Shape& shape) { return {shape[1], shape[0]}; }

// The tensors of a file, in the order in which parameters first ask for them.
std::vector<std::pair<std::string, Tensor>> laid_out(const ParameterSet& parameters,
                                                     const FileLayout& layout) {
  std::vector<std::pair<std::string, Tensor>> out;
  std::map<std::string, Tensor> stacks;
  for (const ParameterPtr& p : parameters.all()) {
    const TensorPlace at = place_in(layout, p->name());
    Tensor value = p->value();
    if (at.n_rows > 0) {
      Tensor& stack = stacks[at.tensor];
      const bool begun = stack.defined();
      if (!begun)
        stack = Tensor::zeros(value.rank() == 1 ? Shape{at.n_rows} : Shape{at.n_rows, value.size(1)},
                              value.dtype());
      stack.rows(at.first_row, at.first_row + value.size(0)).copy_from(value);
      if (begun) continue;
      value = stack;
    }
    out.emplace_back(at.tensor, at.transposed ? value.transpose(0, 1) : value);
  }
  return out;
}

}  // namespace

void save_model_files(const std::string& dir, const ParameterSet& parameters, io::Json config, DType dtype,
                      const FileLayout& layout) {
  QKV_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, kDtype, "save: weights are f32 or bf16, not {}",
            name(dtype));
  io::make_directories(dir);
  std::vector<io::SafetensorsTensor> tensors;
  std::vector<Tensor> kept;
  for (const auto& [name, value] : laid_out(parameters, layout)) {
    const Tensor t = value.contiguous().to(dtype);
    kept.push_back(t);
    tensors.push_back({.name = name,
                       .dtype = std::string(io::safetensors_dtype(dtype)),
                       .shape = {t.shape().sizes().begin(), t.shape().sizes().end()},
                       .data = {t.bytes(), static_cast<size_t>(t.n_bytes())}});
  }
  io::write_safetensors(dir + "/model.safetensors", tensors, {{"format", "pt"}});
  config["torch_dtype"] = dtype == DType::kF32 ? "float32" : "bfloat16";
  io::write_file_atomically(config_path(dir), io::dump_json(config, 2) + "\n");
}

std::string config_path(const std::string& dir) { return dir + "/config.json"; }

io::Json read_model_config(const std::string& dir) {
  QKV_CHECK(io::is_directory(dir), kIo,
            "{}: {}; a model is a directory with config.json, model.safetensors and tokenizer.json",
            escape(dir, kPathInMessage), io::exists(dir) ? "not a directory" : "no such directory");
  (void)io::file_size(config_path(dir));  // a pipe by that name would wait for its writer
  return io::read_json(config_path(dir));
}

ModelWeights::ModelWeights(const std::string& dir, FileLayout layout)
    : file_(io::SafetensorsFile::open(dir + "/model.safetensors")), layout_(std::move(layout)) {}

bool ModelWeights::holds(const std::string& parameter) const {
  return find(place_in(layout_, parameter).tensor) != nullptr;
}

ParameterReader ModelWeights::reader() {
  return [this](const std::string& parameter, const Shape& shape) { return read(parameter, shape); };
}

void ModelWeights::check_all_used() const {
  for (const io::SafetensorsTensor& t : file_.tensors())
    QKV_CHECK(used_.contains(t.name) || (layout_.passed_over && layout_.passed_over(t.name)), kFormat,
              "{}: tensor {} has no place in the model that config.json describes",
              escape(file_.path(), kPathInMessage), quote(t.name));
}

// Every way to spell the name, until the file knows one.
const io::SafetensorsTensor* ModelWeights::find(const std::string& tensor) const {
  std::vector<std::string> names = {tensor};
  for (const auto& [usual, other] : layout_.other_spellings)
    for (size_t i = 0, n = names.size(); i < n; ++i)
      if (const size_t at = names[i].find(usual); at != std::string::npos)
        names.push_back(std::string(names[i]).replace(at, usual.size(), other));
  for (const std::string& name : names)
    if (const io::SafetensorsTensor* t = file_.find(name)) return t;
  return nullptr;
}

Tensor ModelWeights::read(const std::string& parameter, const Shape& shape) {
  const TensorPlace at = place_in(layout_, parameter);
  const io::SafetensorsTensor* found = find(at.tensor);
  const io::SafetensorsTensor& saved = found ? *found : file_.at(at.tensor);
  Shape upright = shape;
  if (at.n_rows > 0) upright = shape.rank() == 1 ? Shape{at.n_rows} : Shape{at.n_rows, shape[1]};
  const Shape needed = at.transposed ? turned(upright) : upright;
  const Shape there{std::span<const int64_t>(saved.shape)};
  QKV_CHECK(there == needed, kFormat, "{}: {} is {}, config.json makes it {}", file_.path(), saved.name,
            there.str(), needed.str());
  Tensor value = Tensor::empty(needed, DType::kF32);
  try {
    io::copy_to_f32(saved, {value.data<float>(), static_cast<size_t>(value.numel())});
  } catch (const Error& e) {
    throw Error(e.code(), fmt::format("{}: {}", file_.path(), e.what()));
  }
  used_.insert(saved.name);
  if (at.transposed) value = value.transpose(0, 1);
  if (at.n_rows > 0) value = value.rows(at.first_row, at.first_row + shape[0]);
  return value.contiguous();
}

}  // namespace qkv
