// qkv: one program, verbs first. Each command is a file beside this one.

#include <fcntl.h>
#include <fmt/core.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <new>
#include <string>
#include <string_view>

#include "apps/cli/bench.h"
#include "apps/cli/did_you_mean.h"
#include "apps/cli/doctor.h"
#include "apps/cli/info.h"
#include "apps/cli/lab.h"
#include "apps/cli/output.h"
#include "apps/cli/quantize.h"
#include "apps/cli/score.h"
#include "apps/cli/tokenizer.h"
#include "apps/cli/train.h"
#include "apps/cli/translate.h"
#include "qkv/base/error.h"
#include "qkv/base/parallel.h"
#include "qkv/base/quote.h"

namespace {

// Exit statuses: 0 success, 2 a wrong call, 1 the rest, 130 stopped by a signal after saving (train). Values
// come from the call and nowhere else: what is wrong in a file is kFormat.
int status_of(const qkv::Error& e) {
  switch (e.code()) {
    case qkv::ErrorCode::kValue:
      return 2;
    case qkv::ErrorCode::kCancelled:
      return 130;
    default:
      return 1;
  }
}

// Messages are escaped where names from files enter them; this is the net below. No message of ours has two
// lines: one that seems to has the second from outside.
int fail(const char* message, int status) {
  qkv::cli::note_text("qkv: " + qkv::escape(message, 1 << 16) + "\n");
  return status;
}

// Options of qkv itself may stand anywhere in a call, so the help of every command has them too, before its
// examples.
class Help : public CLI::Formatter {
 public:
  std::string make_footer(const CLI::App* app) const override {
    const CLI::App* qkv = app;
    while (qkv->get_parent() != nullptr) qkv = qkv->get_parent();
    const std::string examples = Formatter::make_footer(app);
    if (qkv == app) return examples;
    const std::string group =
        make_group("Options of every command", false, qkv->get_options([&](const CLI::Option* option) {
          return option != qkv->get_help_ptr() && option != qkv->get_version_ptr();
        }));
    return group.substr(1) + "\n" + examples;  // a blank line above it is there already
  }
};

// An empty path to write is a variable of a script that was never set, not a wish.
void refuse_empty_paths(CLI::App& app) {
  for (const char* name : {"--out", "--output", "--trace", "--svg", "--html"})
    if (CLI::Option* option = app.get_option_no_throw(name))
      option->check(CLI::Validator(
          [](const std::string& path) { return std::string(path.empty() ? "is empty; name a path" : ""); },
          ""));
  for (CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    refuse_empty_paths(*command);
}

int run(int argc, char** argv) {
  CLI::App app{"qkv trains, runs, measures and shows attention models. No Python, no download, no GPU."};
  app.name("qkv");
  app.formatter(std::make_shared<Help>());  // before there are commands: they inherit it
  app.set_version_flag("--version", std::string("qkv ") + QKV_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  int threads = 0;
  app.add_option("-t,--threads", threads, "kernel threads (default: all cores, or QKV_THREADS)")
      ->check(CLI::Range(1, 4096))
      ->each([](const std::string& n) { qkv::set_threads(std::stoi(n)); });
  app.footer(
      "First steps:\n"
      "  qkv train translate --source train.en --target train.de --valid-source val.en --valid-target val.de "
      "--out runs/en-de\n"
      "  echo 'A man sleeps.' | qkv translate --model runs/en-de --align\n"
      "  qkv COMMAND -h explains each command with an example.");

  qkv::cli::add_train_command(app);
  qkv::cli::add_translate_command(app);
  qkv::cli::add_score_command(app);
  qkv::cli::add_tokenizer_command(app);
  qkv::cli::add_info_command(app);
  qkv::cli::add_quantize_command(app);
  qkv::cli::add_doctor_command(app);
  qkv::cli::add_bench_command(app);
  qkv::cli::add_lab_command(app);
  refuse_empty_paths(app);

  try {
    app.parse(argc, argv);
    qkv::cli::flush_stdout();
    return 0;
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) {  // help and version
      app.exit(e);
      qkv::cli::flush_stdout();
      return 0;
    }
    fail(qkv::cli::message_of(e, app, argc, argv).c_str(), 2);
    if (const std::string hint = qkv::cli::did_you_mean(app, argc, argv); !hint.empty())
      qkv::cli::note("{}\n", hint);
    qkv::cli::note("Run with -h for help.\n");
    return 2;
  }
}

// How many threads the command line or the environment asks for; 0 where they say nothing, or nonsense.
int64_t threads_asked_for(int argc, char** argv) {
  const char* asked = std::getenv("QKV_THREADS");
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if ((word == "-t" || word == "--threads") && i + 1 < argc) asked = argv[i + 1];
    if (word.starts_with("--threads=")) asked = argv[i] + std::string_view("--threads=").size();
    if (word.starts_with("-t") && word.size() > 2) asked = argv[i] + 2;
  }
  return asked != nullptr ? std::strtoll(asked, nullptr, 10) : 0;
}

// Each processor of the set by itself, "{0},{1}": "threads" would mean the same, but has OpenMP look into
// /sys, and complain where that is not mounted.
std::string places_of(const cpu_set_t& set) {
  std::string places;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) places += fmt::format("{}{{{}}}", places.empty() ? "" : ",", cpu);
  return places;
}

// libgomp reads how its threads wait and where they run before main(), so this starts the program over.
//
// Between two parallel regions they would spin for milliseconds. Alone on a machine that is the fastest way
// to wait; beside other work it takes the processor from whoever should come next (beside six compilers a
// training step took 3 to 7 times as long as with passive waiting). 1,000 turns cost next to nothing alone.
//
// And two that meet every few hundred microseconds were found taking turns on one processor beside an idle
// one, for as long as they ran: each gets one of its own where there are as many threads as processors. (With
// fewer, several programs side by side would all get the first ones.) docs/performance.md has the numbers.
void arrange_threads(int argc, char** argv) {
  bool changed = false;
  const auto unset = [](std::initializer_list<const char*> names) {
    return std::none_of(names.begin(), names.end(),
                        [](const char* name) { return std::getenv(name) != nullptr; });
  };
  if (unset({"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"})) changed = setenv("GOMP_SPINCOUNT", "1000", 1) == 0;
  cpu_set_t set;
  const int processors = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 0;
  const int64_t asked = threads_asked_for(argc, argv);
  if (processors > 0 && (asked == 0 || asked == processors) &&
      unset({"OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"}))
    changed =
        (setenv("OMP_PROC_BIND", "true", 1) == 0 && setenv("OMP_PLACES", places_of(set).c_str(), 1) == 0) ||
        changed;
  if (!changed) return;
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
  if (length <= 0) return;
  path[length] = '\0';
  execv(path, argv);  // where that is not allowed, go on as we are
}

// A descriptor 0, 1 or 2 that is closed would become the next file that is opened, and text meant for a
// terminal would end up in it. What stands there instead refuses what the program does with it, so that it is
// told; standard error takes all and forgets it.
void fill_standard_descriptors() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
      (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : fd == STDOUT_FILENO ? O_RDONLY : O_RDWR);
}

// Kernels keep a tile's work on the stack.
constexpr uint64_t kLeastStack = 1 << 20;
bool stack_suffices() {
  rlimit limit{};
  return getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= kLeastStack;
}
// As OpenMP reads it: a number of kilobytes, or of what B, K, M or G after it says.
bool thread_stack_suffices(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return true;
  char* rest = nullptr;
  const uint64_t number = std::strtoull(text, &rest, 10);
  while (std::isspace(static_cast<unsigned char>(*rest)) != 0) ++rest;
  const int unit = std::tolower(static_cast<unsigned char>(*rest));
  const int bits = unit == 'b' ? 0 : unit == 'm' ? 20 : unit == 'g' ? 30 : 10;
  return rest == text || number >= (kLeastStack >> bits);  // no number: OpenMP says so itself
}

}  // namespace

int main(int argc, char** argv) {
  fill_standard_descriptors();
  if (!stack_suffices()) return fail("needs a stack of 1 MiB at least; set one with: ulimit -s 8192", 1);
  for (const char* variable : {"OMP_STACKSIZE", "GOMP_STACKSIZE"})
    if (!thread_stack_suffices(variable))
      return fail(
          fmt::format("{}={}: threads need a stack of 1 MiB at least; leave it unset, or set it to 8M",
                      variable, qkv::quote(std::getenv(variable)))
              .c_str(),
          1);
  arrange_threads(argc, argv);
  std::signal(SIGPIPE,
              SIG_IGN);  // a reader that leaves is a write error; what has to be put right first can be
  std::signal(SIGXFSZ, SIG_IGN);  // and a file-size limit likewise
  try {
    return run(argc, argv);
  } catch (const qkv::cli::ReaderLeft&) {
    std::signal(SIGPIPE, SIG_DFL);
    return std::raise(SIGPIPE);
  } catch (const qkv::Error& e) {
    return fail(e.what(), status_of(e));
  } catch (const std::bad_alloc&) {
    return fail("out of memory; less at once (a smaller batch) or a smaller model needs less", 1);
  } catch (const std::exception& e) {
    return fail(e.what(), 1);
  }
}
