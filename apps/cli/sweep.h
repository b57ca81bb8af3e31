#pragma once
// A sweep: every combination of some settings' values, one run each, ranked.

#include <string>
#include <utility>
#include <vector>

namespace qkv::cli {

/// What one run of a sweep sets: key and value, as flags would give them.
using SweepPoint = std::vector<std::pair<std::string, std::string>>;

/// Every combination of the lists of a TOML file, the last key changing fastest, keys in alphabetical order:
///   lr = [0.001, 0.003]
///   optimizer = ["adam", "lion"]
/// Errors: kIo, kFormat (no TOML; a value that is no list of plain values, or an empty one), kValue: no list,
/// or over 1,000 combinations.
std::vector<SweepPoint> read_sweep(const std::string& path);

/// "lr=0.001,optimizer=adam": the name of the run's folder, the same whatever else is in the file. Other
/// characters of values than letters, digits and .-_ become %XX, so different values have different names.
std::string sweep_name(const SweepPoint& point);

/// How a run of a sweep ended.
struct SweepResult {
  std::string name;
  std::string failure;  // "": it ended well, and
  std::string by;       // "score" or "loss",
  double value = 0;     // of the weights it chose,
  double loss = 0;      // theirs on validation,
  double seconds = 0;   // that training took,
  std::string chosen;   // which they are
};

/// The result that a run's summary.json holds. Error kFormat.
SweepResult read_sweep_result(const std::string& name, const std::string& summary_path);

/// Best first: by score, or by loss of those that chose by loss; of equal ones the least loss first, then the
/// shortest time. Failures last. A table for people.
std::string sweep_table(std::vector<SweepResult> results);

}  // namespace qkv::cli
