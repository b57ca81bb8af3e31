#include "apps/cli/lab.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "apps/cli/output.h"
#include "apps/cli/progress.h"
#include "qkv/base/counted.h"
#include "qkv/base/parallel.h"

namespace qkv::cli {

void write_charts(const std::string& path, const std::vector<explain::Chart>& charts, int columns) {
  if (path.empty()) return;
  write_output(path, explain::svg(charts, columns));
  if (path != "-") note("charts: open {} in a browser\n", path);
}

void note_expected(const std::string& command, const std::string& work, double seconds,
                   const std::string& flags) {
  note("{}: {}; {} with {} ({} it)\n", command, work,
       seconds < 5 ? "a few seconds" : "about " + duration(seconds), counted(threads(), "thread"), flags);
}

std::string brief(double v) {
  if (!std::isfinite(v)) return "-";
  const int digits = v == 0 ? 0 : static_cast<int>(std::floor(std::log10(std::abs(v))));
  return fmt::format("{:.{}f}", v, std::clamp(2 - digits, 0, 6));
}

CLI::Validator positive_number(double most) {
  return CLI::Validator(
      [most](const std::string& text) -> std::string {
        double x = 0;
        return CLI::detail::lexical_cast(text, x) && x > 0 && x <= most
                   ? ""
                   : fmt::format("is {}, needs to be a number above 0{}", text,
                                 most < 1e300 ? fmt::format(", at most {}", most) : "");
      },
      "");
}

void add_lengths_option(CLI::App& app, const std::string& flag, std::vector<int64_t>& lengths,
                        const std::string& help) {
  app.add_option(flag, lengths, help)
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N,N,...")
      ->default_str(fmt::format("{}", fmt::join(lengths, ",")));
}

void add_lab_command(CLI::App& app) {
  CLI::App* lab = app.add_subcommand("lab", "experiments with attention: cost, heads, positions, sweep");
  lab->require_subcommand(1);
  lab->footer("Example:\n  qkv lab cost --svg cost.svg");
  add_lab_cost(*lab);
  add_lab_heads(*lab);
  add_lab_positions(*lab);
  add_lab_sweep(*lab);
}

}  // namespace qkv::cli
