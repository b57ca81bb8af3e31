#include "qkv/explain/terminal_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "qkv/explain/words.h"

namespace qkv::explain {
namespace {

// Weights become five shades. Steps widen upwards because what matters below is whether there is anything at
// all.
constexpr float kSteps[] = {0.05f, 0.20f, 0.45f, 0.70f};
constexpr const char* kUnicodeCells[] = {"· ", "░░", "▒▒", "▓▓", "██"};
constexpr const char* kAsciiCells[] = {". ", "--", "++", "%%", "##"};

int shade(float weight) {
  int s = 0;
  while (s < 4 && weight >= kSteps[s]) ++s;
  return s;
}

class Map {
 public:
  Map(const Tensor& weights, std::span<const std::string> target, std::span<const std::string> source,
      const TerminalMapOptions& options)
      : options_(options), weights_(weights.contiguous()) {
    for (const std::string& word : target) target_.push_back(printable(word, !options.unicode));
    for (const std::string& word : source) source_.push_back(printable(word, !options.unicode));
    int64_t longest_target = 1, longest_source = 1;
    for (const std::string& w : target_) longest_target = std::max(longest_target, display_width(w));
    for (const std::string& w : source_) longest_source = std::max(longest_source, display_width(w));
    // Left of the cells the target words; right of them room for the last words of the stairs, and for the
    // notes.
    label_ = std::min(longest_target, options.width / 4);
    const int64_t note = std::min(longest_source, int64_t{16}) + 5;  // " 100%"
    const int64_t room = options.width - (kMargin + label_ + 2) - (note + 1);
    const auto n = static_cast<int64_t>(source_.size());
    cell_ = n * 3 <= room ? 3 : 2;
    per_part_ = std::max<int64_t>(1, std::min(n, room / cell_));
    if (per_part_ < n)
      per_part_ =
          (n + (n + per_part_ - 1) / per_part_ - 1) / ((n + per_part_ - 1) / per_part_);  // even parts
  }

  std::string draw() {
    const auto n = static_cast<int64_t>(source_.size());
    for (int64_t begin = 0; begin < n; begin += per_part_) {
      const int64_t end = std::min(n, begin + per_part_);
      if (begin > 0) out_ += '\n';
      stairs(begin, end);
      for (size_t t = 0; t < target_.size(); ++t) row(t, begin, end);
    }
    legend();
    return std::move(out_);
  }

 private:
  static constexpr int64_t kMargin = 2;

  // Text that is at hand in two spellings.
  const char* pick(const char* unicode, const char* ascii) const {
    return options_.unicode ? unicode : ascii;
  }

  void put(std::string_view text, const char* style = nullptr) {
    if (text.empty()) return;
    const bool styled = style != nullptr && options_.color;
    if (styled) out_ += fmt::format("\x1b[{}m", style);
    out_ += text;
    if (styled) out_ += "\x1b[0m";
  }
  void end_line() {
    while (!out_.empty() && out_.back() == ' ') out_.pop_back();
    out_ += '\n';
  }
  void blanks(int64_t n) { out_.append(static_cast<size_t>(std::max<int64_t>(n, 0)), ' '); }

  // The source words, each one step lower and further right than the one before.
  void stairs(int64_t begin, int64_t end) {
    const int64_t left = kMargin + label_ + 2;
    for (int64_t s = begin; s < end; ++s) {
      blanks(left);
      for (int64_t c = begin; c < s; ++c) {
        put(pick("│", "|"), kFaint);
        blanks(cell_ - 1);
      }
      put(pick("╭ ", ". "), kFaint);
      const int64_t used = left + (s - begin) * cell_ + 2;
      put(fitted(source_[static_cast<size_t>(s)], options_.width - used, !options_.unicode));
      end_line();
    }
  }

  void row(size_t t, int64_t begin, int64_t end) {
    const auto n = static_cast<int64_t>(source_.size());
    const float* weights = weights_.data<float>() + static_cast<int64_t>(t) * n;
    const int64_t largest = std::max_element(weights, weights + n) - weights;
    const std::string label = fitted(target_[t], label_, !options_.unicode);
    blanks(kMargin + label_ - display_width(label));
    put(label);
    blanks(2);
    for (int64_t s = begin; s < end; ++s) {
      const int level = shade(weights[s]);
      const bool stands_out = s == largest && weights[s] > 0;
      put(pick(kUnicodeCells[level], kAsciiCells[level]), stands_out   ? kStrong
                                                          : level == 0 ? kFaint
                                                                       : nullptr);
      blanks(cell_ - 2);
    }
    // Whom the row looks at most, in words; in the part where that is.
    if (largest >= begin && largest < end && weights[largest] > 0) {
      blanks(1);
      const std::string percent = fmt::format(" {:.0f}%", 100 * static_cast<double>(weights[largest]));
      const int64_t used =
          kMargin + label_ + 2 + (end - begin) * cell_ + 1 + static_cast<int64_t>(percent.size());
      put(fitted(source_[static_cast<size_t>(largest)], std::min<int64_t>(16, options_.width - used),
                 !options_.unicode));
      put(percent, kFaint);
    }
    end_line();
  }

  void legend() {
    out_ += '\n';
    int64_t used = options_.width;  // as if the line were full: the first entry begins one
    for (int level = 0; level < 5; ++level) {
      const double step = 100 * static_cast<double>(kSteps[level == 0 ? 0 : level - 1]);
      const std::string text =
          level == 0 ? fmt::format("below {:.0f}%", step) : fmt::format(" from {:.0f}%", step);
      const int64_t width = 2 + static_cast<int64_t>(text.size());
      if (used + 3 + width > options_.width) {
        if (level > 0) end_line();
        blanks(kMargin);
        used = kMargin + width;
      } else {
        blanks(3);
        used += 3 + width;
      }
      put(pick(kUnicodeCells[level], kAsciiCells[level]), level == 0 ? kFaint : nullptr);
      put(text, kFaint);
    }
    end_line();
  }

  static constexpr const char* kFaint = "2";      // ANSI faint: right on light and dark screens
  static constexpr const char* kStrong = "1;36";  // bold cyan

  const TerminalMapOptions& options_;
  Tensor weights_;
  std::vector<std::string> target_, source_;
  int64_t label_ = 0, cell_ = 3, per_part_ = 1;
  std::string out_;
};

}  // namespace

std::string terminal_map(const Tensor& weights, std::span<const std::string> target_words,
                         std::span<const std::string> source_words, const TerminalMapOptions& options) {
  QKV_CHECK(weights.defined() && weights.rank() == 2 &&
                weights.size(0) == static_cast<int64_t>(target_words.size()) &&
                weights.size(1) == static_cast<int64_t>(source_words.size()),
            kShape, "terminal_map: weights are {}, there are {} target and {} source words",
            weights.defined() ? weights.shape().str() : "undefined", target_words.size(),
            source_words.size());
  QKV_CHECK(options.width >= 40, kValue, "terminal_map: width is {} columns, needs 40 or more",
            options.width);
  if (target_words.empty() || source_words.empty()) return {};
  return Map(weights, target_words, source_words, options).draw();
}

}  // namespace qkv::explain
