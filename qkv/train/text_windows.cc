#include "qkv/train/text_windows.h"

#include <algorithm>
#include <utility>

#include "qkv/base/error.h"
#include "qkv/base/shuffle.h"

namespace qkv {
namespace {

constexpr uint32_t kWindows = 0x77d0;  // the random stream of an epoch's first cut and its order

}  // namespace

void WindowOptions::check() const {
  constexpr int64_t kMost = int64_t{1} << 30;
  for (auto [name, value] : {std::pair{"context", length}, {"batch_tokens", batch_tokens}})
    QKV_CHECK(value >= 1 && value <= kMost, kValue, "windows: {} is {}, needs to be 1 to {}", name, value,
              kMost);
}

WindowPlan::WindowPlan(int64_t n_rows, const WindowOptions& options) : n_rows_(n_rows), options_(options) {
  options.check();
  QKV_CHECK(n_rows >= 1, kFormat, "windows: the text is too short: it has no token to predict");
}

// The first ends at first_end (0: there is none so short), the others are `length` long, but for the last.
std::vector<RowRange> WindowPlan::windows(int64_t first_end) const {
  std::vector<RowRange> out;
  for (int64_t begin = 0, end = first_end; begin < n_rows_; begin = end, end += options_.length) {
    end = std::min(end, n_rows_);
    if (end > begin) out.push_back({begin, end});
  }
  return out;
}

std::vector<std::vector<RowRange>> WindowPlan::batches(const std::vector<RowRange>& windows) const {
  std::vector<std::vector<RowRange>> out;
  int64_t rows = options_.batch_tokens;  // "full", so that the first window opens a batch
  for (const RowRange& w : windows) {
    if (rows + w.size() > options_.batch_tokens) {
      out.emplace_back();
      rows = 0;
    }
    out.back().push_back(w);
    rows += w.size();
  }
  return out;
}

std::vector<std::vector<RowRange>> WindowPlan::epoch(int64_t number) const {
  RandomStream random({.seed = options_.seed, .stream = kWindows, .step = static_cast<uint32_t>(number)});
  const auto longest = static_cast<uint64_t>(std::min(options_.length, n_rows_));
  std::vector<RowRange> all = windows(static_cast<int64_t>(random.below(longest)));
  shuffle(all, random);
  return batches(all);
}

std::vector<std::vector<RowRange>> WindowPlan::in_order() const { return batches(windows(options_.length)); }

std::vector<RowRange> parts_of(const TokenStream& stream, const RowRange& window) {
  std::vector<RowRange> parts;
  auto next = std::upper_bound(stream.begins.begin(), stream.begins.end(), window.begin);
  for (int64_t begin = window.begin; begin < window.end;) {
    const int64_t end = next == stream.begins.end() ? window.end : std::min(window.end, *next++);
    parts.push_back({begin, end});
    begin = end;
  }
  return parts;
}

}  // namespace qkv
