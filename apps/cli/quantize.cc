#include "apps/cli/quantize.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>

#include "apps/cli/output.h"
#include "apps/cli/table.h"
#include "qkv/base/quote.h"
#include "qkv/io/atomic_file.h"
#include "qkv/io/file.h"
#include "qkv/io/json.h"
#include "qkv/models/model_files.h"
#include "qkv/scores/bleu.h"
#include "qkv/scores/chrf.h"
#include "qkv/tasks/masked_language_model_training.h"
#include "qkv/tasks/model_directory.h"
#include "qkv/tasks/translator.h"
#include "qkv/tensor/quantised_rows.h"
#include "qkv/text/line_reader.h"
#include "qkv/train/parallel_corpus.h"

namespace qkv::cli {
namespace {

struct Flags {
  std::string model, out, pairs, text;
  int64_t limit = 1000, beam = 5;
  bool json = false;
};

struct Metric {
  std::string name;
  double before = 0, after = 0;
};

struct Report {
  int64_t matrices = 0, bytes_before = 0, bytes_after = 0;
  double error = 0;        // |w - w'| / |w| over all of them
  double worst_error = 0;  // of one
  std::string worst;
  std::vector<Metric> metrics;
};

double seconds_of(const std::function<void()>& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int64_t weight_bytes(const std::string& dir) { return io::file_size(dir + "/model.safetensors"); }

void measure_weights(const ParameterSet& parameters, Report& report) {
  double all_errors = 0, all = 0;
  for (const ParameterPtr& p : parameters.all()) {
    for (int64_t i = 0; i < p->value().numel(); ++i)
      QKV_CHECK(std::isfinite(p->value().data<float>()[i]), kNotFinite,
                "quantize: {}, number {} of {} is {}: the model is damaged", p->name(), i,
                p->value().shape().str(), p->value().data<float>()[i]);
    if (!p->only_multiplies()) continue;
    ++report.matrices;
    const Tensor w = p->value(), back = dequantised(quantise_rows(w));
    double errors = 0, squares = 0;
    for (int64_t i = 0; i < w.numel(); ++i) {
      const double x = w.data<float>()[i], e = back.data<float>()[i] - x;
      errors += e * e, squares += x * x;
    }
    all_errors += errors, all += squares;
    const double error = std::sqrt(errors / std::max(squares, 1e-300));
    if (error > report.worst_error) report.worst_error = error, report.worst = p->name();
  }
  report.error = std::sqrt(all_errors / std::max(all, 1e-300));
}

// How good a model is, by data of the call.
struct Judge {
  std::vector<std::string> names;  // of the numbers; empty: there are no data
  std::function<std::vector<double>(const std::string& dir, const Precision& precision)> measure;
};

Judge judge_translations(const Flags& f) {
  if (f.pairs.empty()) return {};
  ParallelText text = read_parallel_tsv(f.pairs);
  const size_t n = std::min(text.source.size(), static_cast<size_t>(f.limit));
  QKV_CHECK(n > 0, kFormat, "quantize: {} has no pairs", quote(f.pairs));
  text.source.resize(n), text.target.resize(n);
  return {{"BLEU", "chrF2", "seconds"},
          [text = std::move(text), beam = f.beam](const std::string& dir, const Precision& precision) {
            TranslateOptions options{.precision = precision};
            options.search.beam_size = beam;
            const Translator translator(TranslationModel::load(dir, precision), options);
            std::vector<std::string> hypotheses;
            const double seconds = seconds_of([&] {
              for (const Translation& t : translator.translate(text.source)) hypotheses.push_back(t.text());
            });
            return std::vector<double>{scores::corpus_bleu(hypotheses, {text.target}).score,
                                       scores::corpus_chrf(hypotheses, {text.target}).score, seconds};
          }};
}

Judge judge_hidden_words(const Flags& f) {
  if (f.text.empty()) return {};
  return {{"loss", "accuracy", "seconds"},
          [lines = read_lines(f.text)](const std::string& dir, const Precision& precision) {
            MaskedLanguageModel model = MaskedLanguageModel::load(dir, precision);
            TextTrainingOptions options{.dtype = precision.dtype};
            options.windows.length = std::min<int64_t>(128, model.bert->config().max_len);
            MaskedLanguageModelTrainee trainee(std::move(model), {.training = lines, .validation = lines},
                                               options);
            Validation v;
            const double seconds = seconds_of([&] { v = trainee.validate(); });
            return std::vector<double>{v.loss, v.score, seconds};
          }};
}

void print_report(const Report& r, const Flags& f) {
  if (f.json) {
    io::Json out = {
        {"directory", f.out},           {"matrices", r.matrices},  {"bytes_before", r.bytes_before},
        {"bytes_after", r.bytes_after}, {"weight_error", r.error}, {"worst_weight_error", r.worst_error},
        {"worst_weight", r.worst}};
    for (const Metric& m : r.metrics) out["metrics"][m.name] = {{"before", m.before}, {"after", m.after}};
    print("{}\n", io::dump_json(out));
    return;
  }
  Table table({"", "before", "int8", "change"});
  const auto mb = [](int64_t bytes) { return static_cast<double>(bytes) / 1e6; };
  table.add({"weights, MB", fmt::format("{:.1f}", mb(r.bytes_before)),
             fmt::format("{:.1f}", mb(r.bytes_after)),
             fmt::format("{:+.0f} %", 100 * (mb(r.bytes_after) / mb(r.bytes_before) - 1))});
  for (const Metric& m : r.metrics) {
    const bool time = m.name == "seconds";
    table.add(
        {m.name, fmt::format("{:.2f}", m.before), fmt::format("{:.2f}", m.after),
         time ? fmt::format("{:.2f} x", m.before / m.after) : fmt::format("{:+.2f}", m.after - m.before)});
  }
  print("{}\n{} matrices in 8 bits, off by {:.2f} % (root mean square); most in {}, {:.2f} %\n", table.text(),
        r.matrices, 100 * r.error, r.worst, 100 * r.worst_error);
  if (r.metrics.empty())
    note(
        "qkv quantize: to see what it costs, give data to judge by: --pairs FILE.tsv of a translation model, "
        "--text FILE of BERT");
}

void run(const Flags& f) {
  const std::string dir = resolve_model_directory(f.model);
  const io::Json config = read_model_config(dir);
  const std::string type = io::get_string(config, "model_type", config_path(dir));
  QKV_CHECK(!config.contains("quantization_config"), kValue, "quantize: {} is in 8 bits already", dir);
  QKV_CHECK(type != "gpt2" && type != "qkv_gpt2", kUnsupported,
            "quantize: files of GPT-2 have no 8-bit form yet; translation models and BERT have");
  QKV_CHECK(!io::exists(f.out + "/config.json"), kValue,
            "quantize: {} holds a model already; choose another --out", f.out);
  QKV_CHECK(!io::exists(f.out) || (io::is_directory(f.out) && std::filesystem::is_empty(f.out)), kValue,
            "quantize: {} is there already; choose another --out", f.out);
  const bool encoder = type == "bert" || type == "qkv_bert";
  QKV_CHECK(encoder ? f.pairs.empty() : f.text.empty(), kValue, "quantize: {} is judged by {}", type,
            encoder ? "--text FILE" : "--pairs FILE.tsv");
  const Judge judge = encoder ? judge_hidden_words(f) : judge_translations(f);

  Report report{.bytes_before = weight_bytes(dir)};
  // With "/" at its end the name of what is staged beside it would lie within it.
  std::filesystem::path out = std::filesystem::absolute(f.out).lexically_normal();
  if (!out.has_filename()) out = out.parent_path();
  io::make_directories(out.parent_path().string());
  io::StagedFolder stage(out.string());
  const Precision saved(DType::kBF16, /*in_int8=*/true);
  if (encoder) {
    const MaskedLanguageModel model = MaskedLanguageModel::load(dir);
    measure_weights(model.bert->parameters(), report);
    model.save(stage.path(), saved);
  } else {
    const TranslationModel model = TranslationModel::load(dir);
    measure_weights(model.transformer->parameters(), report);
    model.save(stage.path(), saved);
  }
  report.bytes_after = weight_bytes(stage.path());
  if (judge.measure) {
    const std::vector<double> before = judge.measure(dir, default_compute_dtype()),
                              after = judge.measure(stage.path(), Precision(default_compute_dtype(), true));
    for (size_t i = 0; i < judge.names.size(); ++i)
      report.metrics.push_back({judge.names[i], before[i], after[i]});
  }
  stage.commit();
  print_report(report, f);
}

}  // namespace

void add_quantize_command(CLI::App& app) {
  CLI::App* quantize =
      app.add_subcommand("quantize", "write a model in 8-bit weights, and say what that costs in quality");
  auto flags = std::make_shared<Flags>();
  quantize->add_option("model", flags->model, "model or run directory: a translation model or BERT")
      ->required();
  quantize->add_option("-o,--out", flags->out, "directory to write")->required();
  quantize->add_option(
      "--pairs", flags->pairs,
      "sentence pairs, source TAB target, to translate with both models: BLEU and chrF before and after");
  quantize->add_option("--text", flags->text,
                       "of BERT: a text whose words are hidden and asked for, with both");
  quantize->add_option("--limit", flags->limit, "pairs to translate at most")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  quantize->add_option("--beam", flags->beam, "beam size")->capture_default_str()->check(CLI::Range(1, 64));
  quantize->add_flag("--json", flags->json, "one JSON object");
  quantize->footer(
      "The directory runs in 8 bits unless --dtype says otherwise. The matrices of linear layers take half "
      "the\n"
      "room of bf16; tables of words stay as they are. The layout is that of compressed-tensors.\n"
      "Example:\n  qkv quantize models/en-de --out en-de-int8 --pairs tests/data/valid.tsv\n"
      "  qkv translate --model en-de-int8 'Good morning.'");
  quantize->callback([flags] { run(*flags); });
}

}  // namespace qkv::cli
