// qkv lab heads: which heads of a translation model matter.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <numeric>

#include "apps/cli/lab.h"
#include "apps/cli/output.h"
#include "apps/cli/progress.h"
#include "apps/cli/table.h"
#include "qkv/base/counted.h"
#include "qkv/explain/terminal_map.h"
#include "qkv/io/json.h"
#include "qkv/scores/sentences.h"
#include "qkv/tasks/head_importance.h"
#include "qkv/text/line_reader.h"
#include "qkv/train/parallel_corpus.h"

namespace qkv::cli {
namespace {

struct HeadFlags {
  std::string model = "models/en-de", pairs, metric = "loss", dtype = "auto", svg;
  std::vector<std::string> data;  // source, reference, further references
  int64_t limit = 500, beam = 1;
  double noise = 0;
  bool prune = false, json = false;
};

struct Data {
  std::vector<std::string> sources;
  std::vector<std::vector<std::string>> references;
};

Data read_data(const HeadFlags& f) {
  QKV_CHECK(
      f.pairs.empty() != f.data.empty(), kValue,
      "lab heads: needs sentence pairs to judge the heads on: --data SOURCE REFERENCE, or --pairs FILE.tsv");
  Data data;
  if (!f.pairs.empty()) {
    ParallelText text = read_parallel_tsv(f.pairs);
    data = {std::move(text.source), {std::move(text.target)}};
  } else {
    std::vector<std::pair<std::string, int64_t>> counts;
    for (const std::string& path : f.data) {
      std::vector<std::string> lines = scores::read_sentences(path);
      counts.emplace_back(path, static_cast<int64_t>(lines.size()));
      if (path == f.data[0] && data.sources.empty())
        data.sources = std::move(lines);
      else
        data.references.push_back(std::move(lines));
    }
    scores::check_same_counts(counts);
  }
  const auto n = std::min(data.sources.size(), static_cast<size_t>(f.limit));
  data.sources.resize(n);
  for (auto& column : data.references) column.resize(n);
  return data;
}

std::string name_of(const HeadPlace& h) { return fmt::format("{} {}.{}", h.site, h.layer + 1, h.head + 1); }
std::string layer_of(const HeadPlace& h) { return fmt::format("{} layer {}", h.site, h.layer + 1); }

// The heads, a row a layer: what the metric loses without each.
void print_grid(const HeadImportance& heads, const std::vector<double>& harm) {
  const auto& all = heads.heads();
  const int64_t n_heads =
      std::max_element(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.head < b.head; })
          ->head +
      1;
  std::vector<std::string> header = {""}, columns, rows;
  for (int64_t h = 1; h <= n_heads; ++h) columns.push_back(fmt::format("head {}", h));
  header.insert(header.end(), columns.begin(), columns.end());
  Table table(header);
  const double largest = *std::max_element(harm.begin(), harm.end());
  std::vector<double> shares;
  for (size_t i = 0; i < all.size(); i += static_cast<size_t>(n_heads)) {
    rows.push_back(layer_of(all[i]));
    std::vector<std::string> cells = {rows.back()};
    for (size_t h = i; h < i + static_cast<size_t>(n_heads); ++h) {
      cells.push_back(fmt::format("{:+.4f}", harm[h]));
      shares.push_back(largest > 0 ? std::clamp(harm[h] / largest, 0.0, 1.0) : 0);
    }
    table.add(std::move(cells));
  }
  print("{}", table.text());
  if (Output("-").is_terminal())
    print(
        "\nas a share of the largest:\n\n{}",
        explain::terminal_map(Tensor::from({static_cast<int64_t>(rows.size()), n_heads}, shares, DType::kF32),
                              rows, columns, {.color = true}));
}

struct Change {
  std::string what;
  std::function<void(size_t head, bool on)> apply;
  std::vector<double> harm = {};  // of each head
};

void run(const HeadFlags& f) {
  const HeadMetric metric = head_metric_from_name(f.metric);
  Data data = read_data(f);
  const std::string pairs = counted(static_cast<int64_t>(data.sources.size()), "pair");
  HeadImportance heads(TranslationModel::load(f.model), std::move(data.sources), std::move(data.references),
                       {.metric = metric, .dtype = compute_dtype_from_name(f.dtype), .beam_size = f.beam});
  const auto n = static_cast<int64_t>(heads.heads().size());
  // What is done to each head in turn: dropped, and, where asked for, disturbed.
  std::vector<Change> changes = {{.what = "without", .apply = [&](size_t h, bool on) { heads.drop(h, on); }}};
  if (f.noise > 0)
    changes.push_back({.what = fmt::format("with noise of {}", f.noise),
                       .apply = [&](size_t h, bool on) { heads.disturb(h, on ? f.noise : 0); }});
  const auto rounds = static_cast<int64_t>(changes.size());
  const double total = static_cast<double>(1 + rounds * n + (f.prune ? n * (n + 1) / 2 : 0));
  const std::string command = "qkv lab heads";
  WorkBar bar(command);

  const double whole = heads.measure();
  for (int64_t c = 0; c < rounds; ++c) {
    Change& change = changes[static_cast<size_t>(c)];
    for (size_t h = 0; h < heads.heads().size(); ++h) {
      const HeadPlace& place = heads.heads()[h];
      bar.show(static_cast<double>(1 + c * n + static_cast<int64_t>(h)), total,
               change.what + " " + name_of(place));
      change.apply(h, true);
      const auto start = std::chrono::steady_clock::now();
      const double value = heads.measure();
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      change.apply(h, false);
      // The pass over the whole model before this one had its memory to find: it took up to 7 times as long.
      if (c == 0 && h == 0)
        note_expected(command, fmt::format("{:.0f} passes over {}", total, pairs), seconds * total,
                      "--limit changes");
      change.harm.push_back(heads.harm(value, whole));
      if (!f.json) continue;
      print("{}\n", io::dump_json({{"site", place.site},
                                   {"layer", place.layer},
                                   {"head", place.head},
                                   {"metric", f.metric},
                                   {"whole", whole},
                                   {c == 0 ? "without" : "with_noise", value},
                                   {"harm", change.harm.back()}}));
    }
    if (!f.json) {
      if (c == 0) print("{} of {} on {}: {}\n", f.metric, f.model, pairs, brief(whole));
      print("\nhow much worse it is {} each head:\n\n", change.what + (c == 0 ? "" : " in"));
      print_grid(heads, change.harm);
    }
  }

  const std::string unit = metric == HeadMetric::kLoss   ? "loss, nats a token"
                           : metric == HeadMetric::kBleu ? "BLEU"
                                                         : "chrF";
  std::vector<explain::Chart> charts;
  for (const Change& change : changes) {
    std::vector<size_t> order(change.harm.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return change.harm[a] > change.harm[b]; });
    explain::BarChart bars{
        .title = change.what == "without" ? "Without one head" : fmt::format("One head {}", change.what),
        .about = fmt::format("{} on {}", f.model, pairs),
        .value_title = (metric == HeadMetric::kLoss ? "rise of the " : "fall of ") + unit,
        .labels = {},
        .values = {}};
    for (const size_t h : order) {
      bars.labels.push_back(name_of(heads.heads()[h]));
      bars.values.push_back(change.harm[h]);
    }
    charts.emplace_back(std::move(bars));
  }

  if (f.prune) {
    flush_stdout();
    const std::vector<PruneStep> steps = prune_greedily(heads, [&](int64_t done, int64_t) {
      bar.show(static_cast<double>(1 + rounds * n + done), total, "removing heads one after the other");
    });
    explain::ChartSeries series{.name = f.metric, .x = {static_cast<double>(n)}, .y = {whole}};
    Table table({"removed", "heads left", f.metric});
    for (size_t i = 0; i < steps.size(); ++i) {
      const HeadPlace& place = heads.heads()[steps[i].head];
      const int64_t left = n - static_cast<int64_t>(i) - 1;
      series.x.push_back(static_cast<double>(left));
      series.y.push_back(steps[i].value);
      table.add({name_of(place), std::to_string(left), fmt::format("{:.4f}", steps[i].value)});
      if (f.json)
        print("{}\n", io::dump_json({{"heads_left", left},
                                     {"site", place.site},
                                     {"layer", place.layer},
                                     {"head", place.head},
                                     {"metric", f.metric},
                                     {"value", steps[i].value}}));
    }
    if (!f.json)
      print("\nremoved one after the other, each time the one that harms least:\n\n{}", table.text());
    std::reverse(series.x.begin(), series.x.end());  // names stand at the last point: to the right
    std::reverse(series.y.begin(), series.y.end());
    charts.emplace_back(explain::LineChart{.title = "Heads removed one after the other",
                                           .about = "from right to left",
                                           .x = {"heads left"},
                                           .y = {unit},
                                           .series = {std::move(series)}});
  }
  write_charts(f.svg, charts, 2);
}

}  // namespace

void add_lab_heads(CLI::App& lab) {
  CLI::App* cmd = lab.add_subcommand("heads", "which heads of a translation model matter");
  const auto f = std::make_shared<HeadFlags>();
  cmd->add_option("model", f->model, "model directory, or run directory of qkv train translate")
      ->capture_default_str()
      ->type_name("MODEL");
  cmd->add_option("--data", f->data,
                  "source lines, reference lines, and files of further references for bleu and chrf")
      ->expected(2, 64)
      ->type_name("SOURCE REFERENCE ...");
  cmd->add_option("--pairs", f->pairs, "instead: one file of source TAB reference")->type_name("FILE");
  cmd->add_option("--limit", f->limit, "judge on the first pairs, this many")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 30));
  cmd->add_option("--metric", f->metric,
                  "loss (of the reference, given the source), bleu or chrf (of translations)")
      ->capture_default_str();
  cmd->add_option("--beam,--beam-size", f->beam, "of translations")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  cmd->add_option(
         "--noise", f->noise,
         "also disturb each head, by noise of this size (to 1000) relative to its output's root mean "
         "square")
      ->check(positive_number(1000));
  cmd->add_flag("--prune", f->prune,
                "then remove heads one after the other, each time the one that harms least");
  cmd->add_option("--dtype", f->dtype, "bf16, f32, or auto: bf16 where the CPU has a unit for it")
      ->capture_default_str();
  cmd->add_flag("--json", f->json, "one JSON object a line; layers and heads counted from 0");
  add_output_option(*cmd, "--svg", f->svg, "write charts");
  cmd->footer(
      "Example:\n"
      "  qkv lab heads models/en-de --data lines.en lines.de\n"
      "  qkv lab heads models/en-de --pairs tests/data/valid.tsv --metric chrf --prune --svg heads.svg");
  cmd->callback([f] { run(*f); });
}

}  // namespace qkv::cli
