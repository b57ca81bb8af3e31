#pragma once
// A model's part of a directory, whatever its architecture: config.json and model.safetensors. See
// docs/formats.md.

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "qkv/io/json.h"
#include "qkv/io/safetensors.h"
#include "qkv/nn/parameter_set.h"

namespace qkv {

/// Where a parameter lies in a file that names its tensors as a public architecture does.
struct TensorPlace {
  std::string tensor;
  bool transposed = false;  // [d_in, d_out] in the file, as GPT-2's Conv1D has it; [d_out, d_in] here
  // Where parameters share a tensor, stacked (GPT-2's c_attn): this one's first row, of how many in all
  // (before transposing). 0: it has the tensor to itself.
  int64_t first_row = 0, n_rows = 0;
};

/// How a public architecture lays its tensors out.
struct FileLayout {
  /// Null: every parameter under its own name.
  std::function<TensorPlace(const std::string& parameter)> place;
  /// Names in other files of the architecture: {"bert.", ""} where some leave that out.
  std::vector<std::pair<std::string, std::string>> other_spellings;
  /// Tensors that such files hold besides parameters (tied copies, buffers): known, and passed over.
  std::function<bool(std::string_view tensor)> passed_over;
};

/// Writes dir/model.safetensors, then dir/config.json, each atomically; config gets the key torch_dtype.
/// f32 or bf16 (half the size; what a running model rounds to anyway where the CPU has a bf16 unit). With
/// int8 the weights of linear layers become integers, each NAME with its NAME_scale [n, 1] f32, and config
/// says so in quantization_config, as compressed-tensors lays W8A8 out
/// (https://github.com/vllm-project/compressed-tensors; tables and vectors stay numbers of the dtype).
/// Errors: kIo, kDtype; kUnsupported: int8 with a layout that turns or stacks such weights.
void save_model_files(const std::string& dir, const ParameterSet& parameters, io::Json config,
                      const Precision& precision, const FileLayout& layout = {});

/// dir/config.json, unread: an object. Errors: kIo (no such directory or file), kFormat; kUnsupported:
/// weights quantised otherwise than above.
io::Json read_model_config(const std::string& dir);
std::string config_path(const std::string& dir);
/// Whether such a config's linear layers are 8-bit integers.
bool is_in_int8(const io::Json& config, const std::string& where);

/// The weights of a directory, as a ParameterReader gives them out; integers times their scales. Each
/// tensor's shape and dtype are checked before memory is taken for it. Errors: kIo (missing file), kFormat
/// (damaged or mismatched part, named).
class ModelWeights {
 public:
  ModelWeights(const std::string& dir, FileLayout layout);
  bool holds(const std::string& parameter) const;
  /// Valid as long as this.
  ParameterReader reader();
  /// Error kFormat for a tensor that was neither read nor is passed over: it has no place in the model.
  void check_all_used() const;

 private:
  const io::SafetensorsTensor* find(const std::string& tensor) const;
  Tensor read(const std::string& parameter, const Shape& shape);
  Tensor read_numbers(const io::SafetensorsTensor& saved, const Shape& shape);
  Tensor read_integers(const io::SafetensorsTensor& saved, const Shape& shape);

  io::SafetensorsFile file_;
  FileLayout layout_;
  std::set<std::string> used_;
};

/// A model with the weights of a directory, which has to hold all of them and nothing else. only_runs: as
/// ParameterStart::running.
template <class Model, class Config>
std::unique_ptr<Model> load_weights_into(const Config& config, ModelWeights& weights,
                                         std::optional<Precision> only_runs) {
  auto model = std::make_unique<Model>(config, ParameterStart(weights.reader(), only_runs));
  weights.check_all_used();
  return model;
}

}  // namespace qkv
