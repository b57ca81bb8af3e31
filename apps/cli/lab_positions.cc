// qkv lab positions: how models that know positions in different ways do on texts longer than those they were
// trained on.

#include <fmt/format.h>

#include <memory>

#include "apps/cli/lab.h"
#include "apps/cli/lab_trials.h"
#include "apps/cli/output.h"
#include "apps/cli/table.h"
#include "qkv/attention/variant.h"
#include "qkv/base/cpu.h"
#include "qkv/io/json.h"

namespace qkv::cli {
namespace {

constexpr int64_t kHeldOutTokens = 32768;  // read at each length

struct PositionFlags : TrialFlags {
  PositionFlags() { trial.steps = 2000; }  // five minutes on two cores
  std::vector<std::string> encodings = {"none", "sinusoidal", "learned", "shaw",
                                        "t5",   "alibi",      "rope",    "transformer_xl"};
  int64_t n_heads = 4, times = 16;
};

// A word for what is added to the embeddings, or words for attention.
Gpt2Config model_of(const PositionFlags& f, const std::string& encoding, int64_t longest) {
  Gpt2Config model = f.model();
  model.n_heads = f.n_heads;
  model.max_len = longest;
  const bool added = encoding == "none" || encoding == "sinusoidal" || encoding == "learned";
  model.positions = added ? encoding : "none";
  if (!added) model.attention = encoding;
  return model;
}

void run(const PositionFlags& f) {
  std::vector<int64_t> lengths;
  for (int64_t n = f.trial.length; n <= f.trial.length * f.times; n *= 2) lengths.push_back(n);
  QKV_CHECK(f.d_model % f.n_heads == 0, kValue, "lab positions: --n-heads {} does not divide --d-model {}",
            f.n_heads, f.d_model);
  const int64_t width = f.d_model / f.n_heads;
  for (const std::string& e : f.encodings)  // before any is trained
    if (const Gpt2Config model = model_of(f, e, lengths.back()); model.positions == "none" && e != "none") {
      check_variant(e, "lab positions", {.n_heads = f.n_heads, .d_k = width}, f.d_model, true, false);
      QKV_CHECK(has_positions(e), kValue, "lab positions: '{}' says nothing about positions", e);
    }

  Trials trials("qkv lab positions", f, static_cast<int64_t>(f.encodings.size()), lengths.back());
  std::vector<std::string> header = {"positions", "parameters", "ms a step"};
  for (const int64_t n : lengths) header.push_back(std::to_string(n));
  Table table(header);
  explain::LineChart chart{.title = fmt::format("Trained on {} tokens, tested on more", f.trial.length),
                           .about = trials.text().about(),
                           .x = {"length of the text, tokens", explain::AxisScale::kLog2},
                           .y = {"loss of its second half, nats a token"},
                           .series = {}};
  const std::vector<double> x(lengths.begin(), lengths.end());
  for (const std::string& e : f.encodings) {
    const Trial trial = trials.run(model_of(f, e, lengths.back()), e);
    std::vector<std::string> cells = {e, std::to_string(trial.parameters()),
                                      brief(trial.seconds_per_step * 1e3)};
    chart.series.push_back({.name = e, .x = x, .y = {}});
    for (const int64_t n : lengths) {
      const double loss = trial.trained->held_out_loss(n, kHeldOutTokens);
      chart.series.back().y.push_back(loss);
      cells.push_back(fmt::format("{:.3f}", loss));
      if (f.json)
        print("{}\n", io::dump_json({{"positions", e},
                                     {"trained_on", f.trial.length},
                                     {"length", n},
                                     {"loss", loss},
                                     {"training_loss", trial.training_loss},
                                     {"steps", f.trial.steps},
                                     {"parameters", trial.parameters()},
                                     {"ms_per_step", trial.seconds_per_step * 1e3},
                                     {"isa", name(isa())}}));
    }
    if (f.json) flush_stdout();
    table.add(std::move(cells));
  }
  const double least = trials.text().least_loss();
  if (std::isfinite(least))
    chart.series.push_back({"no model goes below", x, std::vector<double>(x.size(), least), true});
  if (!f.json) {
    print("{}\nlosses: nats a token, of the second half of held-out texts of each length; trained on {}.{}\n",
          table.text(), f.trial.length,
          std::isfinite(least) ? fmt::format(" No model can go below {:.3f}.", least) : "");
  }
  write_charts(f.svg, {std::move(chart)}, 1);
}

}  // namespace

void add_lab_positions(CLI::App& lab) {
  CLI::App* cmd = lab.add_subcommand("positions", "train short, test long: kinds of positions compared");
  const auto f = std::make_shared<PositionFlags>();
  cmd->add_option(
         "--encodings", f->encodings,
         "none, sinusoidal or learned (added to embeddings), or attention in words: shaw, t5, alibi, rope, "
         "transformer_xl, 'rope:500000 + window:64'")
      ->delimiter(',')
      ->type_name("WORDS,...")
      ->default_str("none,sinusoidal,learned,shaw,t5,alibi,rope,transformer_xl");
  cmd->add_option("--times", f->times, "test up to this many times --length")
      ->capture_default_str()
      ->check(CLI::Range(1, 256));
  cmd->add_option("--n-heads", f->n_heads, "heads")->capture_default_str()->check(CLI::Range(1, 256));
  f->add_to(*cmd);
  cmd->footer(
      "Example:\n"
      "  qkv lab positions --svg positions.svg\n"
      "  qkv lab positions --text book.txt --length 128 --encodings alibi,rope --steps 2000");
  cmd->callback([f] { run(*f); });
}

}  // namespace qkv::cli
