// qkv lab sweep: how many heads, and how wide? Quality, time and memory of every combination.

#include <fmt/format.h>

#include <memory>

#include "apps/cli/lab.h"
#include "apps/cli/lab_trials.h"
#include "apps/cli/output.h"
#include "apps/cli/table.h"
#include "qkv/base/counted.h"
#include "qkv/base/cpu.h"
#include "qkv/io/json.h"

namespace qkv::cli {
namespace {

constexpr int64_t kHeldOutTokens = 65536;
constexpr double kMiB = 1 << 20;

struct SweepFlags : TrialFlags {
  SweepFlags() { trial.steps = 1000; }  // five minutes on two cores
  std::vector<int64_t> n_heads = {1, 2, 4, 8}, d_k = {4, 16}, d_v = {4, 16};
  std::string positions = "rope";
};

struct Row {
  int64_t n_heads, d_k, d_v;
  double loss, ms, mib;
};

void run(const SweepFlags& f) {
  std::vector<Row> rows;
  for (const int64_t d_k : f.d_k)
    for (const int64_t d_v : f.d_v)
      for (const int64_t n : f.n_heads) rows.push_back({n, d_k, d_v, 0, 0, 0});
  const auto model_of = [&](const Row& row) {
    Gpt2Config model = f.model();
    model.positions = f.positions == "learned" || f.positions == "sinusoidal" ? f.positions : "none";
    if (model.positions == "none" && f.positions != "none") model.attention = f.positions;
    model.n_heads = row.n_heads;
    model.d_k = row.d_k;
    model.d_v = row.d_v;
    return model;
  };
  for (const Row& row : rows) Gpt2(model_of(row), 1);  // what cannot be made is said before any is trained

  Trials trials("qkv lab sweep", f, static_cast<int64_t>(rows.size()), f.trial.length);
  Table table({"heads", "d_k", "d_v", "parameters", "loss", "ms a step", "MiB"});
  for (Row& row : rows) {
    const Trial trial = trials.run(
        model_of(row), fmt::format("{}, d_k {}, d_v {}", counted(row.n_heads, "head"), row.d_k, row.d_v));
    row.loss = trial.trained->held_out_loss(f.trial.length, kHeldOutTokens);
    row.ms = trial.seconds_per_step * 1e3;
    row.mib = static_cast<double>(trial.peak_bytes) / kMiB;
    table.add({std::to_string(row.n_heads), std::to_string(row.d_k), std::to_string(row.d_v),
               std::to_string(trial.parameters()), fmt::format("{:.3f}", row.loss), brief(row.ms),
               brief(row.mib)});
    if (!f.json) continue;
    print("{}\n", io::dump_json({{"n_heads", row.n_heads},
                                 {"d_k", row.d_k},
                                 {"d_v", row.d_v},
                                 {"parameters", trial.parameters()},
                                 {"loss", row.loss},
                                 {"training_loss", trial.training_loss},
                                 {"ms_per_step", row.ms},
                                 {"bytes", trial.peak_bytes},
                                 {"steps", f.trial.steps},
                                 {"isa", name(isa())}}));
    flush_stdout();
  }
  if (!f.json)
    print(
        "{}\nloss: nats a token on held-out text of {} tokens, its second half. MiB: the most in use during "
        "a step.\n",
        table.text(), f.trial.length);

  const auto chart = [&](const char* title, const char* y, double Row::*value) {
    explain::LineChart c{.title = title,
                         .about = trials.text().about(),
                         .x = {"heads", explain::AxisScale::kLog2},
                         .y = {y},
                         .series = {}};
    for (const Row& row : rows) {
      const std::string series = fmt::format("d_k {}, d_v {}", row.d_k, row.d_v);
      if (c.series.empty() || c.series.back().name != series)
        c.series.push_back({.name = series, .x = {}, .y = {}});
      c.series.back().x.push_back(static_cast<double>(row.n_heads));
      c.series.back().y.push_back(row.*value);
    }
    return c;
  };
  write_charts(
      f.svg,
      {chart("Quality", "held-out loss, nats a token", &Row::loss), chart("Time", "of a step, ms", &Row::ms),
       chart("Memory", "most in use during a step, MiB", &Row::mib)},
      3);
}

}  // namespace

void add_lab_sweep(CLI::App& lab) {
  CLI::App* cmd = lab.add_subcommand("sweep", "train models of every number of heads, d_k and d_v");
  const auto f = std::make_shared<SweepFlags>();
  add_lengths_option(*cmd, "--n-heads", f->n_heads, "numbers of heads");
  add_lengths_option(*cmd, "--d-k", f->d_k, "widths of a head's queries and keys");
  add_lengths_option(*cmd, "--d-v", f->d_v, "widths of a head's values");
  cmd->add_option("--positions", f->positions, "as --encodings of lab positions; one for all models")
      ->capture_default_str();
  f->add_to(*cmd);
  cmd->footer("Example:\n  qkv lab sweep --n-heads 1,2,4,8 --d-k 16 --d-v 16,32 --svg sweep.svg");
  cmd->callback([f] { run(*f); });
}

}  // namespace qkv::cli
