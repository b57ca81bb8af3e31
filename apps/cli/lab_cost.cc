// qkv lab cost: what attention costs as sequences grow.

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "apps/cli/bench_timing.h"
#include "apps/cli/lab.h"
#include "apps/cli/output.h"
#include "apps/cli/progress.h"
#include "apps/cli/table.h"
#include "qkv/attention/attention.h"
#include "qkv/attention/paths/scratch.h"
#include "qkv/autograd/gradcheck.h"
#include "qkv/base/counted.h"
#include "qkv/base/cpu.h"
#include "qkv/base/parallel.h"
#include "qkv/tasks/translation_model.h"

namespace qkv::cli {
namespace {

constexpr double kMiB = 1 << 20;

struct CostFlags {
  std::vector<int64_t> lengths = {128, 256, 512, 1024, 2048, 4096, 8192};
  std::string dtype = "auto", svg;
  int64_t heads = 8, d_head = 64, window = 256;
  double most_seconds = 2;
  bool json = false;
};

struct Path {
  std::string name;
  AttentionPath path;
  std::vector<RulePtr> rules;
  double start_rate;                       // operations a second, before any was measured
  std::function<double(double)> pairs_of;  // of query and key that are seen, by length
  bool step = false;                       // one query, after the others of a cache: it has no backward
};

std::vector<Path> paths(const CostFlags& f) {
  const auto all = [](double n) { return n * n; };
  const double window = static_cast<double>(f.window);
  return {{"blocked", AttentionPath::kBlocked, {}, 2e10, all},
          {"causal", AttentionPath::kBlocked, {causal()}, 2e10, [](double n) { return n * n / 2; }},
          {fmt::format("window {}", f.window),
           AttentionPath::kBlocked,
           {sliding_window(f.window)},
           2e10,
           [window](double n) { return n * std::min(n / 2, window); }},
          {"whole rows", AttentionPath::kRows, {}, 1e10, all},
          {"reference", AttentionPath::kReference, {}, 5e8, all},
          {"decode step", AttentionPath::kDecode, {}, 2e9, [](double n) { return n; }, true}};
}

struct Cost {
  double seconds = 0;
  int64_t bytes = 0;
};

// Runs of one call, and what it needs at most above its inputs: the result, gradients, what is kept for them,
// and working memory. Timed for half a second, or as long as three calls take; at once: three calls.
Cost measure(const CostFlags& f, const Path& path, int64_t length, bool both, DType dtype,
             bool at_once = false) {
  const AttentionOptions options{
      .heads = {.n_heads = f.heads, .d_k = f.d_head}, .rules = path.rules, .path = path.path};
  const int64_t n_queries = path.step ? 1 : length, width = f.heads * f.d_head;
  const Segments queries({n_queries}, {length - n_queries}), keys({length});
  const Var q(random_tensor({n_queries, width}, 1, dtype), both),
      k(random_tensor({length, width}, 2, dtype), both), v(random_tensor({length, width}, 3, dtype), both);
  const Tensor gradient = random_tensor({n_queries, width}, 4, dtype);
  const auto call = [&] {
    if (!both) {
      const NoGrad off;
      (void)attention(q, k, v, queries, keys, options);
      return;
    }
    backward(attention(q, k, v, queries, keys, options), gradient);
    for (const Var* x : {&q, &k, &v}) x->set_grad({});
  };
  paths::Scratch::release();
  const int64_t before = memory_use().in_use;
  reset_memory_peak();
  // Which thread does how much is chance, and a short call may be over before the second one wakes: the peak
  // of one call varied by a half, the peak of all does not.
  const double seconds = timed(call, 3, 1, at_once ? 0 : 10).med_s;
  return {.seconds = seconds, .bytes = memory_use().peak - before};
}

// What is measured, in the order of the table, and how long each may take.
struct Point {
  size_t path;
  bool both;
  int64_t length;
  std::optional<Cost> cost = {};
};

class Costs {
 public:
  explicit Costs(const CostFlags& f) : flags_(f), dtype_(compute_dtype_from_name(f.dtype)), paths_(paths(f)) {
    std::sort(flags_.lengths.begin(), flags_.lengths.end());
    for (const bool both : {false, true})
      for (const size_t p : measured(both))
        for (const int64_t n : flags_.lengths) points_.push_back({p, both, n});
  }

  void run() {
    const std::string command = "qkv lab cost";
    calibrate();
    double expected = 0;
    for (const Point& point : points_) expected += time_for(point);
    note_expected(command,
                  fmt::format("{}, {} paths, forward and with backward",
                              counted(static_cast<int64_t>(flags_.lengths.size()), "length"), paths_.size()),
                  expected, "--lengths and --most-seconds change");
    WorkBar bar(command);
    double done = 0;
    for (size_t i = 0; i < points_.size(); ++i) {
      Point& point = points_[i];
      double left = 0;
      for (size_t k = i; k < points_.size(); ++k) left += time_for(points_[k]);
      bar.show(done, done + left,
               fmt::format("{} {}, length {}", paths_[point.path].name,
                           point.both ? "forward + backward" : "forward", point.length));
      if (call_seconds(point) > flags_.most_seconds) continue;
      point.cost = measure(flags_, paths_[point.path], point.length, point.both, dtype_);
      rate_[{point.path, point.both}] = operations(point) / point.cost->seconds;
      done += time_for(point);
      if (!flags_.json) continue;
      print_json(point);
    }
  }

  void print_tables() const {
    for (const bool both : {false, true}) {
      print("{}{}: {}\n", both ? "\n" : "", both ? "forward + backward" : "forward", about());
      std::vector<std::string> header = {"length"};
      for (const size_t p : measured(both)) {
        header.push_back(paths_[p].name + " ms");
        header.emplace_back("MiB");
      }
      Table table(header);
      for (const int64_t n : flags_.lengths) {
        std::vector<std::string> cells = {std::to_string(n)};
        for (const size_t p : measured(both)) {
          const std::optional<Cost> c = at(p, both, n);
          cells.push_back(c ? brief(c->seconds * 1e3) : "-");
          cells.push_back(c ? brief(static_cast<double>(c->bytes) / kMiB) : "-");
        }
        table.add(std::move(cells));
      }
      print("{}", table.text());
    }
    print(
        "\nms: the median of a call. MiB: the most that is in use during one, above its inputs.\n"
        "Decode step: one query and the keys of a cache.{}\n",
        std::any_of(points_.begin(), points_.end(), [](const Point& p) { return !p.cost; })
            ? fmt::format(" -: over {} s a call expected (--most-seconds).", brief(flags_.most_seconds))
            : "");
  }

  std::vector<explain::Chart> charts() const {
    std::vector<explain::Chart> out;
    for (const bool memory : {false, true})
      for (const bool both : {false, true}) {
        explain::LineChart chart{
            .title = fmt::format("{} of attention, {}", memory ? "Memory" : "Time",
                                 both ? "forward and backward" : "forward"),
            .about = about(),
            .x = {"sequence length, tokens", explain::AxisScale::kLog2},
            .y = {memory ? "peak above inputs, MiB" : "time of a call, ms", explain::AxisScale::kLog10},
            .series = {}};
        for (const size_t p : measured(both)) {
          explain::ChartSeries series{.name = paths_[p].name, .x = {}, .y = {}};
          for (const int64_t n : flags_.lengths)
            if (const std::optional<Cost> c = at(p, both, n)) {
              series.x.push_back(static_cast<double>(n));
              series.y.push_back(memory ? static_cast<double>(c->bytes) / kMiB : c->seconds * 1e3);
            }
          chart.series.push_back(std::move(series));
        }
        out.emplace_back(std::move(chart));
      }
    return out;
  }

 private:
  std::string about() const {
    return fmt::format("{} of {}, {}, {}, {}", counted(flags_.heads, "head"), flags_.d_head, name(dtype_),
                       counted(threads(), "thread"), name(isa()));
  }
  std::vector<size_t> measured(bool both) const {
    std::vector<size_t> out;
    for (size_t p = 0; p < paths_.size(); ++p)
      if (!both || !paths_[p].step) out.push_back(p);
    return out;
  }
  std::optional<Cost> at(size_t path, bool both, int64_t length) const {
    for (const Point& p : points_)
      if (p.path == path && p.both == both && p.length == length) return p.cost;
    return std::nullopt;
  }
  double operations(const Point& p) const {
    return (p.both ? 14.0 : 4.0) * static_cast<double>(flags_.heads * flags_.d_head) *
           paths_[p.path].pairs_of(static_cast<double>(p.length));
  }
  // How fast this machine is, from a few calls of the shortest length.
  void calibrate() {
    for (const Point& p : points_)
      if (p.length == flags_.lengths.front() && call_seconds(p) <= flags_.most_seconds)
        rate_[{p.path, p.both}] =
            operations(p) / measure(flags_, paths_[p.path], p.length, p.both, dtype_, true).seconds;
  }
  // As fast as the last shorter one.
  double call_seconds(const Point& p) const {
    const auto measured = rate_.find({p.path, p.both});
    return operations(p) / (measured == rate_.end() ? paths_[p.path].start_rate : measured->second);
  }
  double time_for(const Point& p) const {
    const double call = call_seconds(p);
    return call > flags_.most_seconds ? 0 : std::max(0.5, 5 * call);
  }
  void print_json(const Point& p) const {
    print("{}\n", io::dump_json({{"path", paths_[p.path].name},
                                 {"pass", p.both ? "forward+backward" : "forward"},
                                 {"length", p.length},
                                 {"queries", paths_[p.path].step ? 1 : p.length},
                                 {"heads", flags_.heads},
                                 {"d_head", flags_.d_head},
                                 {"dtype", name(dtype_)},
                                 {"isa", name(isa())},
                                 {"threads", threads()},
                                 {"ms", p.cost->seconds * 1e3},
                                 {"gflops", operations(p) / p.cost->seconds / 1e9},
                                 {"bytes", p.cost->bytes}}));
    flush_stdout();
  }

  CostFlags flags_;
  DType dtype_;
  std::vector<Path> paths_;
  std::vector<Point> points_;
  std::map<std::pair<size_t, bool>, double> rate_;
};

}  // namespace

void add_lab_cost(CLI::App& lab) {
  CLI::App* cmd = lab.add_subcommand("cost", "time and memory of attention by sequence length");
  const auto f = std::make_shared<CostFlags>();
  add_lengths_option(*cmd, "--lengths", f->lengths, "sequence lengths");
  cmd->add_option("--heads,--n-heads", f->heads, "heads")->capture_default_str()->check(CLI::Range(1, 1024));
  cmd->add_option("--d-head", f->d_head, "width of a head")
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
  cmd->add_option("--window", f->window, "keys that the windowed path shows")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  cmd->add_option("--dtype", f->dtype, "bf16, f32, or auto: bf16 where the CPU has a unit for it")
      ->capture_default_str();
  cmd->add_option("--most-seconds", f->most_seconds, "leave out calls that would take longer")
      ->capture_default_str()
      ->check(positive_number());
  cmd->add_flag("--json", f->json, "one JSON object a line, as each is measured");
  add_output_option(*cmd, "--svg", f->svg, "write charts of time and memory");
  cmd->footer(
      "Example:\n"
      "  qkv lab cost --svg cost.svg\n"
      "  qkv lab cost --lengths 512,1024 --heads 12 --d-head 64 --dtype f32 --threads 1 --json");
  cmd->callback([f] {
    Costs costs(*f);
    costs.run();
    if (!f->json) costs.print_tables();
    write_charts(f->svg, costs.charts(), 2);
  });
}

}  // namespace qkv::cli
