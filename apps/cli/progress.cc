#include "apps/cli/progress.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "apps/cli/output.h"
#include "qkv/base/quote.h"

namespace qkv::cli {
namespace {

constexpr int64_t kMostShown = 1 << 16;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// A bar of `width` cells, each shown in eighths.
std::string bar(double done, int width) {
  static const char* const kEighths[] = {" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};
  const int eighths = static_cast<int>(std::lround(std::clamp(done, 0.0, 1.0) * width * 8));
  std::string out;
  for (int i = 0; i < width; ++i) out += kEighths[std::clamp(eighths - 8 * i, 0, 8)];
  return out;
}

std::string rate_text(const StepReport& r, double peak) {
  return fmt::format("loss {:.3f}  {:.0f} tok/s  {}  {} left", r.loss, r.tokens_per_second,
                     speed(r.flops_per_second, peak), duration(r.seconds_left));
}

}  // namespace

WorkBar::WorkBar(std::string name)
    : name_(std::move(name)), terminal_(isatty(STDERR_FILENO) != 0), start_(now()), last_shown_(start_) {}

WorkBar::~WorkBar() { show_status(""); }

void WorkBar::show(double done, double total, const std::string& text) {
  const double t = now();
  if (t - last_shown_ < (terminal_ ? 0.1 : 30)) return;
  last_shown_ = t;
  const double left = done > 0 ? (t - start_) * (total - done) / done : -1;
  const std::string line = fmt::format("{}: {}  {} left", name_, text, duration(left));
  if (!terminal_) return note("{}\n", line);
  const int room = std::clamp(terminal_width() - static_cast<int>(line.size()) - 4, 0, 40);
  show_status(fmt::format("{} {}", room >= 5 ? "▕" + bar(done / total, room) + "▏" : "", line));
}

std::string duration(double seconds) {
  if (seconds < 0 || !std::isfinite(seconds)) return "?";
  const auto s = static_cast<int64_t>(std::lround(seconds));
  if (s < 60) return fmt::format("{} s", s);
  return s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
                   : fmt::format("{}:{:02}", s / 60, s % 60);
}

std::string speed(double flops_per_second, double peak) {
  return fmt::format("{:.2f} TFLOP/s ({:.0f} % of peak)", flops_per_second / 1e12,
                     100 * flops_per_second / peak);
}

Progress::Progress(double peak) : peak_(peak), terminal_(isatty(STDERR_FILENO) != 0) {}

void Progress::on_step(const StepReport& r) {
  const double t = now();
  if (t - last_shown_ < (terminal_ ? 0.1 : 30) && r.state.step != 1) return;
  last_shown_ = t;
  const std::string total = r.steps_total > 0 ? fmt::format("/{}", r.steps_total) : "";
  if (!terminal_) {
    note("step {}{}  epoch {}  {}\n", r.state.step, total, r.state.epoch + 1, rate_text(r, peak_));
    return;
  }
  const std::string text = fmt::format(" step {}{}  {}", r.state.step, total, rate_text(r, peak_));
  const int room = std::clamp(terminal_width() - static_cast<int>(text.size()) - 3, 0, 40);
  const double done =
      r.steps_total > 0 ? static_cast<double>(r.state.step) / static_cast<double>(r.steps_total) : 0;
  show_status(fmt::format("{}{}", room >= 5 && r.steps_total > 0 ? "▕" + bar(done, room) + "▏" : "", text));
}

void Progress::on_validation(const TrainingState& state, const Validation& v, bool best) {
  note("validation at step {} (epoch {}, {}): loss {:.4f}, perplexity {:.2f}{}{}\n", state.step,
       state.epoch + (state.batch > 0 ? 1 : 0), duration(state.seconds), v.loss, v.perplexity,
       (v.has_score() ? fmt::format(", {} {:.2f}", v.score_name, v.score) : "") +
           (v.bits_per_byte > 0 ? fmt::format(", {:.3f} bits a byte", v.bits_per_byte) : ""),
       best ? "  (best so far)" : "");
}

void Progress::on_message(const std::string& text) {
  // What is in a message may come from a file: only its line ends are kept.
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    note("{}\n", escape(std::string_view(text).substr(begin, end - begin), kMostShown));
    begin = end + 1;
  }
}

}  // namespace qkv::cli
