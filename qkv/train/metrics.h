#pragma once
// RUN/metrics.jsonl: one JSON object a line, for curves; and RUN/summary.json at the end.

#include <string>

#include "qkv/train/trainer.h"

namespace qkv {

class Metrics {
 public:
  /// Opens for appending. Lines of a run that is resumed at `step` and had gone further are dropped,
  /// atomically.
  void open(const std::string& path, int64_t step);
  void step(const StepReport& report);
  void validation(const TrainingState& state, const Validation& validation, bool best,
                  const std::string& weights);
  void summary(const std::string& path, const TrainResult& result);

 private:
  void append(const std::string& line);
  std::string path_;
};

}  // namespace qkv
