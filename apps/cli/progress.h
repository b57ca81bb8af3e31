#pragma once
// What a person sees of a training run, on standard error.

#include <string>

#include "qkv/train/trainer.h"

namespace qkv::cli {

/// On a terminal: one line that is rewritten, with a bar, loss, tokens/s, TFLOP/s, their share of `peak` and
/// time left. Elsewhere: a plain line now and then, so that a log file stays readable.
class Progress : public TrainObserver {
 public:
  explicit Progress(double peak);  // operations a second
  void on_step(const StepReport& report) override;
  void on_validation(const TrainingState& state, const Validation& validation, bool best) override;
  void on_message(const std::string& text) override;

 private:
  double peak_;
  bool terminal_;
  double last_shown_ = 0;
};

/// A bar for other long work, on standard error; gone when this ends. Not on a terminal: a line every half
/// minute.
class WorkBar {
 public:
  explicit WorkBar(std::string name);
  ~WorkBar();
  WorkBar(const WorkBar&) = delete;
  WorkBar& operator=(const WorkBar&) = delete;

  /// `done` of `total`, in any unit that passes evenly; the time left follows from how long `done` took.
  /// text: what is under way.
  void show(double done, double total, const std::string& text);

 private:
  std::string name_;
  bool terminal_;
  double start_, last_shown_;
};

/// "0.21 TFLOP/s (45 % of peak)".
std::string speed(double flops_per_second, double peak);

/// "1:02:03", "4:05", "12 s", or "?" for a negative number.
std::string duration(double seconds);

}  // namespace qkv::cli
