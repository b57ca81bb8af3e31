#include "qkv/train/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "qkv/io/atomic_file.h"
#include "qkv/io/file.h"
#include "qkv/io/json.h"
#include "qkv/io/manifest.h"
#include "qkv/io/safetensors.h"

namespace qkv {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kFiles = {"weights.safetensors", "moments.safetensors", "state.json"};

constexpr const char* kEmaFile = "ema.safetensors";

constexpr int64_t kHuge = int64_t{1} << 53;  // integers that JSON numbers hold exactly

io::SafetensorsTensor view_of(const std::string& name, const Tensor& t) {
  return {.name = name,
          .dtype = std::string(io::safetensors_dtype(t.dtype())),
          .shape = {t.shape().sizes().begin(), t.shape().sizes().end()},
          .data = {t.bytes(), static_cast<size_t>(t.n_bytes())}};
}

void copy_into(const io::SafetensorsFile& file, const std::string& name, const Tensor& t) {
  const io::SafetensorsTensor& saved = file.at(name);
  const Shape shape{std::span<const int64_t>(saved.shape)};
  QKV_CHECK(shape == t.shape(), kFormat,
            "{}: {} is {}, the model's is {}; a resumed run keeps the sizes it began with", file.path(), name,
            shape.str(), t.shape().str());
  io::copy_to_f32(saved, {t.data<float>(), static_cast<size_t>(t.numel())});
}

void save_tensors(const std::string& path, const std::vector<NamedTensor>& named) {
  std::vector<io::SafetensorsTensor> tensors;
  for (const NamedTensor& each : named) tensors.push_back(view_of(each.name, each.value));
  io::write_safetensors(path, tensors);
}

void load_tensors(const std::string& path, const std::vector<NamedTensor>& named) {
  const auto file = io::SafetensorsFile::open(path);
  const bool fits = file.tensors().size() == named.size() &&
                    std::all_of(named.begin(), named.end(),
                                [&](const NamedTensor& each) { return file.find(each.name) != nullptr; });
  QKV_CHECK(fits, kFormat,
            "{}: not what this optimizer remembers ({} tensors, needs {}); a resumed run keeps the optimizer "
            "it began with",
            path, file.tensors().size(), named.size());
  for (const NamedTensor& each : named) copy_into(file, each.name, each.value);
}

io::Json to_json(const TrainingState& s) {
  return {{"step", s.step},
          {"epoch", s.epoch},
          {"batch", s.batch},
          {"micro_step", s.micro_step},
          {"target_tokens", s.target_tokens},
          {"seconds", s.seconds},
          {"best", s.best},
          {"best_loss", s.best_loss},
          {"best_step", s.best_step},
          {"bad_validations", s.bad_validations},
          {"skipped_updates", s.skipped_updates},
          {"validated_step", s.validated_step},
          {"best_by", s.best_by},
          {"data", s.data},
          {"vocabulary", s.vocabulary}};
}

TrainingState state_from(const io::Json& json, const std::string& where) {
  const auto integer = [&](const char* key) { return io::get_int(json, key, 0, kHuge, where); };
  const int64_t step = integer("step");
  const auto up_to_step = [&](const char* key) { return io::get_int(json, key, 0, step, where); };
  return {.step = step,
          .epoch = integer("epoch"),
          .batch = integer("batch"),
          .micro_step = integer("micro_step"),
          .target_tokens = integer("target_tokens"),
          .seconds = io::get_number(json, "seconds", 0, 1e15, where),
          .best = io::get_number(json, "best", -1e300, 1e300, where),
          .best_loss = io::get_number_or(json, "best_loss", 0, -1e300, 1e300, where),
          .best_step = up_to_step("best_step"),
          .bad_validations = integer("bad_validations"),
          .skipped_updates = up_to_step("skipped_updates"),
          .validated_step = up_to_step("validated_step"),
          .best_by = io::get_string(json, "best_by", where),
          .data = io::get_string(json, "data", where),
          .vocabulary = io::get_string_or(json, "vocabulary", "", where)};
}

// Complete folders step-N under dir, newest first.
std::vector<std::string> folders(const std::string& dir) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(dir, ignored))
    if (const std::string name = entry.path().filename().string();
        name.starts_with("step-") && name.find('.') == name.npos)  // neither temporary nor moved aside
      names.push_back(entry.path().string());
  std::sort(names.rbegin(), names.rend());
  return names;
}

}  // namespace

void save_weights(const std::string& path, const std::vector<ParameterPtr>& parameters) {
  std::vector<io::SafetensorsTensor> tensors;
  tensors.reserve(parameters.size());
  for (const ParameterPtr& p : parameters) tensors.push_back(view_of(p->name(), p->value()));
  io::write_safetensors(path, tensors);
}

void load_weights(const std::string& path, const std::vector<ParameterPtr>& parameters) {
  const auto file = io::SafetensorsFile::open(path);
  const auto missing = std::find_if(parameters.begin(), parameters.end(),
                                    [&](const ParameterPtr& p) { return file.find(p->name()) == nullptr; });
  QKV_CHECK(missing == parameters.end() && file.tensors().size() == parameters.size(), kFormat,
            "{}: these are not the model's parameters: it holds {}, the model has {}{}; a resumed run keeps "
            "those it began with: leave out the flag that changes them, or train anew into another folder",
            file.path(), file.tensors().size(), parameters.size(),
            missing == parameters.end() ? "" : fmt::format(", {} among them", (*missing)->name()));
  for (const ParameterPtr& p : parameters) {
    copy_into(file, p->name(), p->value());
    p->value_changed();
  }
}

void load_average(const std::vector<std::string>& paths, const std::vector<ParameterPtr>& parameters) {
  QKV_CHECK(!paths.empty(), kValue, "average: no checkpoint to average");
  std::vector<std::vector<double>> sums;
  for (const ParameterPtr& p : parameters) sums.emplace_back(p->value().numel(), 0.0);
  for (const std::string& path : paths) {
    load_weights(path, parameters);
    for (size_t i = 0; i < parameters.size(); ++i) {
      const float* w = parameters[i]->value().data<float>();
      for (size_t j = 0; j < sums[i].size(); ++j) sums[i][j] += w[j];
    }
  }
  for (size_t i = 0; i < parameters.size(); ++i) {
    float* w = parameters[i]->value().data<float>();
    for (size_t j = 0; j < sums[i].size(); ++j)
      w[j] = static_cast<float>(sums[i][j] / static_cast<double>(paths.size()));
    parameters[i]->value_changed();
  }
}

void save_checkpoint(const std::string& dir, const Optimizer& optimizer, const TrainingState& state,
                     int64_t keep, const WeightEma* ema) {
  io::make_directories(dir);
  const std::string folder = fmt::format("{}/step-{:08d}", dir, state.step);
  io::StagedFolder stage(folder);
  save_weights(stage.path() + "/weights.safetensors", optimizer.parameters());
  save_tensors(stage.path() + "/moments.safetensors", optimizer.state());
  io::write_file_atomically(stage.path() + "/state.json", io::dump_json(to_json(state), 1));
  std::vector<std::string> files = kFiles;
  if (ema != nullptr) {
    save_tensors(stage.path() + "/" + kEmaFile, ema->tensors());
    files.emplace_back(kEmaFile);
  }
  io::write_manifest(stage.path(), files);
  stage.commit();

  // Folders of later steps are left-overs of a run that was resumed from further back: going on from them
  // would be wrong.
  int64_t kept = 0;
  for (const std::string& old : folders(dir)) {
    if (old == folder || (old < folder && kept < keep && io::exists(old + "/manifest.json"))) {
      ++kept;
    } else {
      std::error_code ignored;  // an old checkpoint that will not go is no reason to stop training
      fs::remove_all(old, ignored);
    }
  }
}

TrainingState load_checkpoint(const std::string& dir, Optimizer& optimizer,
                              const std::function<void(const std::string&)>& say, int64_t back,
                              WeightEma* ema) {
  std::vector<std::string> good;  // newest first
  for (const std::string& folder : folders(dir)) {
    io::ManifestCheck check = io::verify_manifest(folder);
    for (const std::string& file : kFiles)
      if (check && std::find(check.files.begin(), check.files.end(), file) == check.files.end())
        check = {.ok = false, .reason = "its manifest does not list " + file};
    if (check)
      good.push_back(folder);
    else
      say(fmt::format("checkpoint {} is not usable: {}", folder, check.reason));
    if (static_cast<int64_t>(good.size()) > back) break;
  }
  QKV_CHECK(!good.empty(), kIo, "{}: no usable checkpoint to resume from", dir);
  const std::string& folder = good.back();
  const std::string where = folder + "/state.json";
  TrainingState state = state_from(io::read_json(where), where);
  load_weights(folder + "/weights.safetensors", optimizer.parameters());
  load_tensors(folder + "/moments.safetensors", optimizer.state());
  if (ema != nullptr) {
    if (io::exists(folder + "/" + kEmaFile))
      load_tensors(folder + "/" + kEmaFile, ema->tensors());
    else
      ema->restart();
  }
  optimizer.set_steps(state.step - state.skipped_updates);
  return state;
}

bool has_checkpoint(const std::string& dir) { return !folders(dir).empty(); }

}  // namespace qkv
