#include "qkv/train/metrics.h"

#include <cstdio>

#include "qkv/io/atomic_file.h"
#include "qkv/io/file.h"
#include "qkv/io/json.h"

namespace qkv {
namespace {

io::Json to_json(const Validation& v) {
  io::Json json = {{"loss", v.loss}, {"perplexity", v.perplexity}};
  if (v.has_score()) json[v.score_name] = v.score;
  if (v.bits_per_byte > 0) json["bits_per_byte"] = v.bits_per_byte;
  return json;
}

}  // namespace

void Metrics::open(const std::string& path, int64_t step) {
  path_ = path;
  if (!io::exists(path)) return;
  std::string kept;
  const std::string text = io::read_file(path, int64_t{1} << 30);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    // A line that is not ours, such as one cut short by a kill, goes.
    const io::Json json = io::Json::parse(line, nullptr, false);
    if (json.is_object() && json.contains("step") && json["step"].is_number_integer() && json["step"] <= step)
      kept += line + "\n";
  }
  io::write_file_atomically(path, kept);
}

void Metrics::append(const std::string& line) {
  std::FILE* file = std::fopen(path_.c_str(), "ab");
  if (file == nullptr) io::throw_io_error("append to", path_, errno);
  const bool written = std::fwrite(line.data(), 1, line.size(), file) == line.size();
  if ((std::fclose(file) != 0) || !written) io::throw_io_error("append to", path_, errno);
}

void Metrics::step(const StepReport& r) {
  append(io::dump_json({{"step", r.state.step},
                        {"epoch", r.state.epoch},
                        {"loss", r.loss},
                        {"perplexity", r.perplexity},
                        {"rate", r.rate},
                        {"grad_norm", r.grad_norm},
                        {"tokens_per_second", r.tokens_per_second},
                        {"tflops", r.flops_per_second / 1e12},
                        {"target_tokens", r.state.target_tokens},
                        {"seconds", r.state.seconds}}) +
         "\n");
}

void Metrics::validation(const TrainingState& state, const Validation& validation, bool best,
                         const std::string& weights) {
  append(
      io::dump_json(
          {{"step", state.step}, {"validation", to_json(validation)}, {"weights", weights}, {"best", best}}) +
      "\n");
}

void Metrics::summary(const std::string& path, const TrainResult& r) {
  io::Json json = {{"steps", r.state.step},
                   {"epochs", r.state.epoch},
                   {"target_tokens", r.state.target_tokens},
                   {"seconds", r.state.seconds},
                   {"tflops", r.flops_per_second / 1e12},
                   {"best_step", r.state.best_step},
                   {"last", to_json(r.last)},
                   {"chosen", r.chosen},
                   {"chosen_by", r.chosen_by},
                   {"chosen_value", r.chosen_value},
                   {"chosen_loss", r.chosen_loss}};
  if (r.average) json["average"] = to_json(*r.average);
  if (r.ema) json["ema"] = to_json(*r.ema);
  io::write_file_atomically(path, io::dump_json(json, 1) + "\n");
}

}  // namespace qkv
