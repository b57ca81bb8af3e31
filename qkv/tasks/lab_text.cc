#include "qkv/tasks/lab_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "qkv/base/error.h"
#include "qkv/base/philox.h"
#include "qkv/base/quote.h"
#include "qkv/io/file.h"

namespace qkv {
namespace {

constexpr int64_t kSymbols = 8, kSuccessors = 2;
constexpr uint32_t kTable = 1, kTraining = 2, kHeldOut = 3;  // random streams
constexpr uint64_t kLanguage = 2017;  // the table and what is held out are always the same

class RepeatingText : public LabText {
 public:
  explicit RepeatingText(int64_t context)
      : farthest_(context / 2),
        longest_(std::clamp<int64_t>(context / 4, 2, 24)),
        shortest_(std::max<int64_t>(1, longest_ / 3)) {
    QKV_CHECK(context >= 8, kValue, "repeating text: context is {}, needs 8 or more", context);
    RandomStream random({.seed = kLanguage, .stream = kTable});
    for (auto& successors : table_) {
      std::array<int32_t, kSymbols> symbols;
      for (int32_t s = 0; s < kSymbols; ++s) symbols[static_cast<size_t>(s)] = s;
      for (size_t i = 0; i < kSuccessors; ++i) {
        std::swap(symbols[i], symbols[i + random.below(kSymbols - i)]);
        successors[i] = symbols[i];
      }
    }
  }

  int64_t vocab_size() const override { return kSymbols; }
  std::vector<int32_t> training(int64_t length, uint64_t seed, uint32_t number) const override {
    return draw(length, {.seed = seed, .stream = kTraining, .step = number});
  }
  std::vector<int32_t> held_out(int64_t length, uint32_t number) const override {
    return draw(length, {.seed = kLanguage, .stream = kHeldOut, .step = number});
  }
  // Half of the tokens are drawn from two, even for who knows the table and where runs begin.
  double least_loss() const override { return 0.5 * std::log(static_cast<double>(kSuccessors)); }
  std::string about() const override {
    return fmt::format(
        "a built-in text of {} symbols that follow from the two before them or repeat what stood {} to {} "
        "back",
        kSymbols, longest_, farthest_);
  }

 private:
  double mean_run() const { return static_cast<double>(shortest_ + longest_) / 2; }

  std::vector<int32_t> draw(int64_t length, const RandomKey& key) const {
    RandomStream random(key);
    const auto between = [&](int64_t low, int64_t high) {
      return low + static_cast<int64_t>(random.below(static_cast<uint64_t>(high - low + 1)));
    };
    std::vector<int32_t> x;
    int64_t left = 0, back = 0;  // of a run
    while (static_cast<int64_t>(x.size()) < length) {
      const auto n = static_cast<int64_t>(x.size());
      if (left > 0) {
        x.push_back(x[static_cast<size_t>(n - back)]);
        --left;
        continue;
      }
      const int64_t before = n < 2 ? between(0, kSymbols * kSymbols - 1)
                                   : x[static_cast<size_t>(n - 2)] * kSymbols + x[static_cast<size_t>(n - 1)];
      x.push_back(table_[static_cast<size_t>(before)][random.below(kSuccessors)]);
      if (n >= longest_ && random.uniform() * mean_run() < 1) {
        left = between(shortest_, longest_);
        back = between(longest_, std::min(farthest_, n));
      }
    }
    return x;
  }

  int64_t farthest_, longest_, shortest_;
  std::array<std::array<int32_t, kSuccessors>, kSymbols * kSymbols> table_;
};

class FileText : public LabText {
 public:
  explicit FileText(const std::string& path)
      : path_(path), bytes_(io::read_maybe_gz(path, int64_t{1} << 30)) {
    QKV_CHECK(bytes_.size() >= 1000, kFormat, "{}: {} bytes are too few for an experiment; needs 1000 or more",
              path, bytes_.size());
    split_ = static_cast<int64_t>(bytes_.size()) / 10 * 9;
  }

  int64_t vocab_size() const override { return 256; }
  std::vector<int32_t> training(int64_t length, uint64_t seed, uint32_t number) const override {
    QKV_CHECK(length <= split_, kValue, "{}: has {} bytes to train on, needs {} for one window", path_,
              split_, length);
    RandomStream random({.seed = seed, .stream = kTraining, .step = number});
    return window(static_cast<int64_t>(random.below(static_cast<uint64_t>(split_ - length + 1))), length);
  }
  std::vector<int32_t> held_out(int64_t length, uint32_t number) const override {
    const int64_t begin = split_ + length * number;
    if (begin + length > static_cast<int64_t>(bytes_.size())) return {};
    return window(begin, length);
  }
  double least_loss() const override { return std::numeric_limits<double>::quiet_NaN(); }
  std::string about() const override {
    return fmt::format("the bytes of {}, the last {} of them held out", quote(path_, 200),
                       static_cast<int64_t>(bytes_.size()) - split_);
  }

 private:
  std::vector<int32_t> window(int64_t begin, int64_t length) const {
    std::vector<int32_t> ids(static_cast<size_t>(length));
    for (int64_t i = 0; i < length; ++i)
      ids[static_cast<size_t>(i)] = static_cast<unsigned char>(bytes_[static_cast<size_t>(begin + i)]);
    return ids;
  }

  std::string path_, bytes_;
  int64_t split_ = 0;
};

}  // namespace

std::unique_ptr<LabText> repeating_text(int64_t context) { return std::make_unique<RepeatingText>(context); }
std::unique_ptr<LabText> text_of_file(const std::string& path) { return std::make_unique<FileText>(path); }

}  // namespace qkv
