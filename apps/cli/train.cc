#include "apps/cli/train.h"

#include <atomic>
#include <csignal>
#include <filesystem>
#include <memory>
#include <set>

#include "apps/cli/command_line.h"
#include "apps/cli/data_path.h"
#include "apps/cli/output.h"
#include "apps/cli/progress.h"
#include "apps/cli/run_lock.h"
#include "apps/cli/sweep.h"
#include "apps/cli/traced.h"
#include "apps/cli/train_task.h"
#include "qkv/base/counted.h"
#include "qkv/base/cpu.h"
#include "qkv/base/parallel.h"
#include "qkv/base/quote.h"
#include "qkv/io/atomic_file.h"
#include "qkv/io/file.h"
#include "qkv/tensor/roofline.h"
#include "qkv/train/rate_finder.h"

namespace qkv::cli {
namespace {

std::atomic<bool> stop_requested{false};

// The first signal asks the loop to save and leave; a second one ends the program at once.
void on_signal(int signal) {
  if (stop_requested.exchange(true)) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

// Progress for a person, and the run's own record of what it was told: written once training begins, so that
// a call that is refused leaves the record of the run as it was.
class Observer : public TrainObserver {
 public:
  Observer(TrainObserver& shown, std::function<void()> record) : shown_(shown), record_(std::move(record)) {}
  void on_start(const TrainingState&) override { record_(); }
  void on_step(const StepReport& report) override { shown_.on_step(report); }
  void on_validation(const TrainingState& state, const Validation& validation, bool best) override {
    shown_.on_validation(state, validation, best);
  }
  void on_message(const std::string& text) override { shown_.on_message(text); }

 private:
  TrainObserver& shown_;
  std::function<void()> record_;
};

// A folder to train in is new, empty, or what a run left that was stopped before its first checkpoint:
// nothing else of anybody's is written over.
void check_free(const std::string& out) {
  namespace fs = std::filesystem;
  static const std::set<std::string> ours = {"lock",           "command.txt",          "config.toml",
                                             "tokenizer.json", "checkpoints",          "weights",
                                             "metrics.jsonl",  "target_tokenizer.json"};
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(out, ignored)) {
    const std::string name = entry.path().filename().string();
    QKV_CHECK(ours.contains(name) && io::exists(out + "/lock"), kIo,
              "train: {} already holds {}; choose another --out, or an empty folder", out, quote(name));
  }
}

// At most 40 lines: rate, smoothed loss, and a bar of it from the least to the first.
void print_rates(const RateRange& r) {
  QKV_CHECK(!r.probes.empty(), kNotFinite, "find-lr: the first loss was not finite: nothing to show");
  double low = r.probes[0].smoothed, high = low;
  for (const RateProbe& p : r.probes) low = std::min(low, p.smoothed);
  print("{:>10}  {:>8}\n", "lr", "loss");
  const size_t every = (r.probes.size() + 39) / 40;
  for (size_t i = 0; i < r.probes.size(); i += every) {
    const RateProbe& p = r.probes[i];
    const double height = high > low ? std::clamp((p.smoothed - low) / (high - low), 0.0, 1.0) : 0;
    print("{:>10.2e}  {:>8.4f}  {}\n", p.rate, p.smoothed,
          std::string(static_cast<size_t>(1 + 50 * height), '*'));
  }
  const bool at_the_end = !r.broke && r.least == r.probes.back().rate;
  print("least loss  {:.4f} at lr {:.1e}: {}{}\n", low, r.least,
        at_the_end ? "the last of the range, so a larger one may do better"
                   : "larger steps undo more than they learn",
        r.broke ? "; after the last line the loss broke" : "");
  print(
      "suggestion  --lr {:.1e}, a tenth of that: the loss still falls there, and a run at it has room to "
      "err\n",
      r.suggested);
}

using MakeTask = std::unique_ptr<TrainTask> (*)();

struct Command {
  explicit Command(MakeTask make_task) : make(make_task), task(make_task()) { task->describe(settings); }

  MakeTask make;
  std::unique_ptr<TrainTask> task;
  Settings settings{task->name()};
  std::string config, out, trace, sweep, command_line;
  bool resume = false, quiet = false, find_lr = false;

  // A path given as a flag means what it says; one of a settings file lies under the data folder. Absolute
  // from here on, so that the run's own config.toml can be read from anywhere.
  void resolve_paths() {
    for (const auto& [key, path] : task->paths())
      if (!path->empty()) {
        const bool typed = settings.from_flag(key);
        *path = std::filesystem::absolute(typed ? *path : data_path(*path)).lexically_normal().string();
        QKV_CHECK(typed || io::exists(*path), kIo,
                  "{}: no such file; the settings name it as {}. Set QKV_DATA to the folder of your data; "
                  "docs/data.md says "
                  "where to get it",
                  *path, key);
      }
  }

  void record() const {
    const std::string path = out + "/command.txt";
    const std::string before = resume && io::exists(path) ? io::read_file(path, 1 << 20) : "";
    io::write_file_atomically(out + "/config.toml", settings.to_toml());
    io::write_file_atomically(path, before + command_line + "\n");
  }

  void check_out() const {
    QKV_CHECK(!find_lr || (out.empty() && !resume), kValue,
              "train: --find-lr writes nothing and begins anew: leave --out and --resume out");
    if (find_lr) return;
    QKV_CHECK(!out.empty(), kValue, "train: where to? give --out DIR");
    QKV_CHECK(!resume || has_checkpoint(out + "/checkpoints"), kIo,
              "train: {} holds no checkpoint to resume from; leave --resume out to begin a run there", out);
    QKV_CHECK(resume || !has_checkpoint(out + "/checkpoints"), kIo,
              "train: {} already holds a run; go on with --resume, or choose another --out", out);
    QKV_CHECK(!io::exists(out) || io::is_directory(out), kIo, "train: {} is a file; --out needs a folder",
              out);
    if (!resume) check_free(out);
  }

  // Settings read, checked and made sense of, before any text is read.
  void settle() {
    // A run knows its own settings; flags given now still beat them.
    settings.load(resume && config.empty() && io::exists(out + "/config.toml") ? out + "/config.toml"
                                                                               : config);
    task->resolve(settings);
    if (!find_lr) task->loop.options.check();  // the test needs neither an end nor a schedule
  }

  void run() {
    settle();
    resolve_paths();
    check_out();

    TrainOptions& options = task->loop.options;
    const double peak = quiet ? 0 : peak_flops(multiplied(options.dtype));
    Progress progress(peak);
    TrainObserver silent;
    TrainObserver& observer = quiet ? silent : static_cast<TrainObserver&>(progress);
    const std::unique_ptr<Trainee> trainee = task->make(settings, resume ? out : "", observer);
    if (resume)
      for (const std::string& change : settings.changes())
        observer.on_message("changed for this resumption: " + change);
    if (find_lr) return print_rates(find_rate(*trainee, options, {}));
    io::make_directories(out);
    const RunLock lock(out);
    for (const char* folder : {"", "/checkpoints", "/weights"})
      if (io::is_directory(out + folder)) io::remove_abandoned_temporaries(out + folder);
    if (!resume) task->save_vocabulary(out);
    options.run_dir = out;
    options.resume = resume;
    options.stop = &stop_requested;
    std::signal(SIGINT, on_signal);
    std::signal(SIGTERM, on_signal);
    std::signal(SIGHUP, on_signal);  // a terminal that is closed
    Observer recorder(observer, [&] { record(); });
    const TrainResult result = qkv::train(*trainee, options, recorder);
    if (result.stopped)
      throw Error(
          ErrorCode::kCancelled,
          fmt::format("training stopped at step {} and saved; go on with: qkv train {} --out {} --resume",
                      result.state.step, task->name(), out));
    observer.on_message(fmt::format("done in {}, at {}: {}/{} is the best on validation; {}",
                                    duration(result.state.seconds), speed(result.flops_per_second, peak), out,
                                    result.chosen, task->next(out)));
  }
};

// A run of a sweep: the call's settings, and the point's over them.
std::unique_ptr<Command> run_of(const Command& all, const SweepPoint& point, const std::string& folder) {
  auto one = std::make_unique<Command>(all.make);
  one->config = all.config;
  one->out = folder;
  one->quiet = all.quiet;
  one->command_line = all.command_line;
  for (const auto& [key, text] : all.settings.flags()) one->settings.give(key, text);
  for (const auto& [key, text] : point) one->settings.give(key, text);
  return one;
}

// What all runs of a sweep have in common, kept beside them: results of other settings are not its results.
void check_same_sweep(const Command& all) {
  std::string common = all.config.empty() ? "" : io::read_file(all.config, 1 << 20);
  for (const auto& [key, text] : all.settings.flags()) common += key + " = " + text + "\n";
  const std::string path = all.out + "/sweep.settings";
  if (io::exists(path)) {
    QKV_CHECK(
        io::read_file(path, 1 << 20) == common, kIo,
        "train: {} holds runs of a sweep with other settings; choose another --out, or call it as before",
        all.out);
    return;
  }
  io::make_directories(all.out);
  io::write_file_atomically(path, common);
}

// Each point in a folder of its own under `all.out`. What ended well is not run again, what was stopped goes
// on, what failed is told and tried again next time. Settings that make no sense are told before any runs.
void run_sweep(const Command& all) {
  QKV_CHECK(!all.out.empty(), kValue, "train: where to? --sweep needs --out DIR for the folders of its runs");
  QKV_CHECK(!all.resume && !all.find_lr, kValue,
            "train: --sweep goes on by itself; leave --resume and --find-lr out");
  const std::vector<SweepPoint> points = read_sweep(all.sweep);
  for (const SweepPoint& point : points) run_of(all, point, all.out + "/" + sweep_name(point))->settle();
  check_same_sweep(all);
  std::vector<SweepResult> results;
  ErrorCode failure{};  // the last one's
  size_t failures = 0;
  for (size_t i = 0; i < points.size(); ++i) {
    const std::string name = sweep_name(points[i]), folder = all.out + "/" + name,
                      summary = folder + "/summary.json";
    if (!all.quiet) note("run {} of {}: {}\n", i + 1, points.size(), name);
    try {
      if (!io::exists(summary)) {
        std::unique_ptr<Command> one = run_of(all, points[i], folder);
        one->resume = has_checkpoint(folder + "/checkpoints");
        if (one->resume) {  // the run has its own settings
          one = std::make_unique<Command>(all.make);
          one->out = folder;
          one->quiet = all.quiet;
          one->command_line = all.command_line;
          one->resume = true;
        }
        one->run();
      }
      results.push_back(read_sweep_result(name, summary));
    } catch (const Error& e) {
      if (e.code() == ErrorCode::kCancelled) throw;  // whoever stops a run stops the sweep
      results.push_back({.name = name, .failure = e.what(), .by = "", .value = 0, .chosen = ""});
      note("{}: {}\n", name, e.what());
      failure = e.code();
      ++failures;
    }
  }
  print_text(sweep_table(results));
  if (failures == points.size()) throw Error(failure, "train: every run of the sweep failed");
}

void add_task(CLI::App& train, MakeTask make) {
  auto command = std::make_shared<Command>(make);
  CLI::App* app = train.add_subcommand(command->task->name(), command->task->about());
  app->add_option("-c,--config", command->config,
                  "settings file (TOML), see recipes/; data paths in it are relative to $QKV_DATA");
  app->add_option("-o,--out", command->out,
                  "run directory: checkpoints, metrics.jsonl, best/, last/, average/");
  app->add_flag("--resume", command->resume, "go on from the newest good checkpoint of --out");
  app->add_flag("-q,--quiet", command->quiet, "say nothing");
  app->add_flag("--find-lr", command->find_lr,
                "train 200 steps at rates that rise from 1e-7 to 1, print the losses, suggest a rate");
  app->add_option("--sweep", command->sweep,
                  "TOML file of lists, lr = [0.001, 0.003] say: a run for each combination, in folders "
                  "under --out; then a table, best first. Called again, it goes on");
  add_trace_option(*app, command->trace);
  command->settings.bind(*app);
  app->footer(fmt::format(
      "Example:\n{}"
      "Ctrl-C saves and leaves; --resume goes on to the same bits (and names what a flag changes: then to "
      "others).",
      command->task->examples()));
  app->callback([command] {
    command->command_line = own_command_line();
    traced(command->trace, [&] { command->sweep.empty() ? command->run() : run_sweep(*command); });
  });
}

}  // namespace

void check_vocabulary_kept(const std::string& path) {
  QKV_CHECK(io::exists(path), kIo,
            "train: {} is gone, and the weights stand for its pieces; best/ and last/ hold copies", path);
}

std::string machine_line(int64_t n_parameters, DType dtype) {
  return fmt::format("{:.2f} M parameters, {} on {} with {}", static_cast<double>(n_parameters) / 1e6,
                     name(dtype), name(isa()), counted(threads(), "thread"));
}

void add_train_command(CLI::App& app) {
  CLI::App* train = app.add_subcommand("train", "train a model");
  train->require_subcommand(1);
  for (const MakeTask make :
       {make_translation_task, make_language_model_task, make_masked_language_model_task})
    add_task(*train, make);
}

}  // namespace qkv::cli
