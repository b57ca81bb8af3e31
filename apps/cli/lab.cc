#include "apps/cli/lab.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "apps/cli/output.h"

namespace qkv::cli {

void write_charts(const std::string& path, const std::vector<explain::Chart>& charts, int columns) {
  if (path.empty()) return;
  write_output(path, explain::svg(charts, columns));
  if (path != "-") note("charts: open {} in a browser\n", path);
}

std::string brief(double v) {
  if (!std::isfinite(v)) return "-";
  const int digits = v == 0 ? 0 : static_cast<int>(std::floor(std::log10(std::abs(v))));
  return fmt::format("{:.{}f}", v, std::clamp(2 - digits, 0, 6));
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
