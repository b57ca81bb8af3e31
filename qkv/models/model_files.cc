#include "qkv/models/model_files.h"

#include <cmath>
#include <map>

#include "qkv/base/quote.h"
#include "qkv/io/atomic_file.h"
#include "qkv/io/file.h"
#include "qkv/tensor/quantised_rows.h"

namespace qkv {
namespace {

constexpr int64_t kPathInMessage = 4096;

TensorPlace place_in(const FileLayout& layout, const std::string& parameter) {
  return layout.place ? layout.place(parameter) : TensorPlace{.tensor = parameter};
}

Shape turned(const Shape& shape) { return {shape[1], shape[0]}; }

constexpr const char* kScale = "_scale";  // NAME.weight_scale

// What compressed-tensors calls W8A8: weights by output feature, activations by token as they come, those
// with a zero point.
io::Json quantisation() {
  const auto numbers = [](const char* strategy, bool as_they_come) {
    return io::Json{{"num_bits", 8},
                    {"type", "int"},
                    {"symmetric", !as_they_come},
                    {"strategy", strategy},
                    {"dynamic", as_they_come}};
  };
  return {{"quant_method", "compressed-tensors"},
          {"format", "int-quantized"},
          {"quantization_status", "compressed"},
          {"ignore", {"lm_head"}},
          {"config_groups",
           {{"group_0",
             {{"targets", {"Linear"}},
              {"weights", numbers("channel", false)},
              {"input_activations", numbers("token", true)}}}}}};
}

constexpr const char* kQuantisation = "quantization_config";

void check_quantisation(const io::Json& config, const std::string& where) {
  if (!is_in_int8(config, where)) return;
  const char* key = kQuantisation;
  const io::Json& q = io::get_object(config, key, where);
  const std::string method = io::get_string_or(q, "quant_method", "", where),
                    format = io::get_string_or(q, "format", "", where);
  QKV_CHECK(
      method == "compressed-tensors" && format == "int-quantized", kUnsupported,
      "{}: {}: {} {} is not read; what is: compressed-tensors int-quantized, weights I8 with a scale for "
      "each output feature",
      where, key, quote(method), quote(format));
}

struct LaidOut {
  std::string name;
  Tensor value;
  bool only_multiplies = false;
};

// The tensors of a file, in the order in which parameters first ask for them.
std::vector<LaidOut> laid_out(const ParameterSet& parameters, const FileLayout& layout) {
  std::vector<LaidOut> out;
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
    out.push_back({at.tensor, at.transposed ? value.transpose(0, 1) : value, p->only_multiplies()});
  }
  return out;
}

}  // namespace

void save_model_files(const std::string& dir, const ParameterSet& parameters, io::Json config,
                      const Precision& precision, const FileLayout& layout) {
  const DType dtype = precision.dtype;
  QKV_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, kDtype, "save: weights are f32 or bf16, not {}",
            name(dtype));
  io::make_directories(dir);
  std::vector<io::SafetensorsTensor> tensors;
  std::vector<Tensor> kept;
  std::vector<QuantisedRows> integers;
  const auto add = [&](const std::string& name, const Tensor& value, const std::vector<int64_t>& shape) {
    kept.push_back(value);
    tensors.push_back({.name = name,
                       .dtype = std::string(io::safetensors_dtype(value.dtype())),
                       .shape = shape,
                       .data = {value.bytes(), static_cast<size_t>(value.n_bytes())}});
  };
  for (const auto& [name, value, only_multiplies] : laid_out(parameters, layout)) {
    if (precision.int8 && only_multiplies) {
      QKV_CHECK(!layout.place || !layout.place(name).transposed, kUnsupported,
                "save: {} lies turned in files of this architecture, which 8-bit files have no form for",
                name);
      const QuantisedRows& q = integers.emplace_back(quantise_rows(value));
      tensors.push_back({.name = name,
                         .dtype = "I8",
                         .shape = {q.n, q.k},
                         .data = {q.integers->data(), static_cast<size_t>(q.n * q.k)}});
      add(name + kScale, q.scales, {q.n, 1});
    } else {
      const Tensor t = value.contiguous().to(dtype);
      add(name, t, {t.shape().sizes().begin(), t.shape().sizes().end()});
    }
  }
  if (precision.int8) config[kQuantisation] = quantisation();
  io::write_safetensors(dir + "/model.safetensors", tensors, {{"format", "pt"}});
  config["torch_dtype"] = dtype == DType::kF32 ? "float32" : "bfloat16";
  io::write_file_atomically(config_path(dir), io::dump_json(config, 2) + "\n");
}

bool is_in_int8(const io::Json& config, const std::string& where) {
  return io::has(config, kQuantisation, where);
}

std::string config_path(const std::string& dir) { return dir + "/config.json"; }

io::Json read_model_config(const std::string& dir) {
  QKV_CHECK(io::is_directory(dir), kIo,
            "{}: {}; a model is a directory with config.json, model.safetensors and tokenizer.json",
            escape(dir, kPathInMessage), io::exists(dir) ? "not a directory" : "no such directory");
  (void)io::file_size(config_path(dir));  // a pipe by that name would wait for its writer
  io::Json config = io::read_json(config_path(dir));
  check_quantisation(config, config_path(dir));
  return config;
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

Tensor ModelWeights::read_numbers(const io::SafetensorsTensor& saved, const Shape& shape) {
  const Tensor value = Tensor::empty(shape, DType::kF32);
  try {
    io::copy_to_f32(saved, {value.data<float>(), static_cast<size_t>(value.numel())});
  } catch (const Error& e) {
    throw Error(e.code(), fmt::format("{}: {}", file_.path(), e.what()));
  }
  used_.insert(saved.name);
  return value;
}

Tensor ModelWeights::read_integers(const io::SafetensorsTensor& saved, const Shape& shape) {
  const io::SafetensorsTensor& scales = file_.at(saved.name + kScale);
  const Shape there{std::span<const int64_t>(scales.shape)};
  QKV_CHECK(shape.rank() == 2 && there.numel() == shape[0], kFormat,
            "{}: {} is {}, needs a scale for each of the {} rows of {}", file_.path(), scales.name,
            there.str(), shape[0], saved.name);
  QuantisedRows rows{.n = shape[0],
                     .k = shape[1],
                     .integers = Buffer::allocate(std::max<int64_t>(1, shape.numel())),
                     .scales = read_numbers(scales, {shape[0]})};
  for (int64_t j = 0; j < rows.n; ++j) {
    const float scale = rows.scales.data<float>()[j];
    QKV_CHECK(std::isfinite(scale) && scale >= 0, kFormat, "{}: {}, row {} is {}, no scale of integers",
              escape(file_.path(), kPathInMessage), scales.name, j, scale);
  }
  std::copy(saved.data.begin(), saved.data.end(), rows.integers->data());
  used_.insert(saved.name);
  return dequantised(rows);
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
  Tensor value = saved.dtype == "I8" ? read_integers(saved, needed) : read_numbers(saved, needed);
  if (at.transposed) value = value.transpose(0, 1);
  if (at.n_rows > 0) value = value.rows(at.first_row, at.first_row + shape[0]);
  return value.contiguous();
}

}  // namespace qkv
