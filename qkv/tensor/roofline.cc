#include "qkv/tensor/roofline.h"

#include <time.h>

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "qkv/base/checked.h"
#include "qkv/base/cpu.h"
#include "qkv/base/memory.h"
#include "qkv/base/parallel.h"
#include "qkv/base/philox.h"
#include "qkv/kernels/table.h"

namespace qkv {
namespace {

constexpr int kTurns = 5;

double seconds_of(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// What one thread did in one turn, and when; processor: the time it had a core to itself.
struct Share {
  double begin = 0, end = 0, processor = 0, done = 0;
};

// Each of n threads does work(t), a little at a time which it says the amount of, for a fifth of `seconds`.
template <class Work>
std::vector<Share> turn(int n_threads, double seconds, Work&& work) {
  std::vector<Share> shares(static_cast<size_t>(n_threads));
  parallel_for(n_threads, 1, [&](int64_t t, int64_t) {
    work(t);  // wakes the core, fills the caches
    Share s;
    const double before = seconds_of(CLOCK_THREAD_CPUTIME_ID);
    s.begin = s.end = seconds_of(CLOCK_MONOTONIC);
    while (s.end < s.begin + seconds / kTurns) {
      s.done += static_cast<double>(work(t));
      s.end = seconds_of(CLOCK_MONOTONIC);
    }
    s.processor = seconds_of(CLOCK_THREAD_CPUTIME_ID) - before;
    shares[static_cast<size_t>(t)] = s;
  });
  std::erase_if(shares, [](const Share& s) { return s.done == 0; });  // fewer threads than asked for
  return shares;
}

// Of about [-1, 1), integers of -127 .. 127; the same few thousand again and again.
template <class T>
void fill_random(T* x, int64_t n) {
  RandomStream random({.seed = 1});
  const float most = std::is_same_v<T, int8_t> ? 127 : 1;
  const int64_t fresh = std::min<int64_t>(n, kernels::kPeakNumbers);
  for (int64_t i = 0; i < fresh; ++i)
    x[i] = static_cast<T>(most * static_cast<float>(2 * random.uniform() - 1));
  for (int64_t i = fresh; i < n; ++i) x[i] = x[i - fresh];
}

// Operations a second: what each thread does in the time that it has a core, added up.
template <class T>
double rate_of(int64_t (*peak)(int64_t steps, const T* numbers) noexcept, int n_threads, double seconds) {
  const auto numbers = Buffer::allocate(kernels::kPeakNumbers * static_cast<int64_t>(sizeof(T)));
  T* const x = reinterpret_cast<T*>(numbers->data());
  fill_random(x, kernels::kPeakNumbers);
  n_threads = std::min(n_threads, threads());
  double best = 0;
  for (int i = 0; i < kTurns; ++i) {
    double rate = 0;
    for (const Share& s : turn(n_threads, seconds, [&](int64_t) { return peak(4096, x); }))
      rate += s.done / s.processor;
    best = std::max(best, rate);
  }
  return best * std::min(1.0, static_cast<double>(omp_get_num_procs()) / n_threads);
}

}  // namespace

std::string_view name(Multiplied numbers) {
  switch (numbers) {
    case Multiplied::kF64:
      return "f64";
    case Multiplied::kF32:
      return "f32";
    case Multiplied::kBF16:
      return "bf16";
    case Multiplied::kInt8:
      return "int8";
  }
  return "?";
}

Multiplied multiplied(const Precision& precision) {
  if (precision.int8) return Multiplied::kInt8;
  return kernels::visit_dtype(precision.dtype, []<class T>(T) {
    return std::is_same_v<T, double>  ? Multiplied::kF64
           : std::is_same_v<T, float> ? Multiplied::kF32
                                      : Multiplied::kBF16;
  });
}

double measure_peak(Multiplied numbers, int n_threads, double seconds) {
  const kernels::Table& table = kernels::table();
  switch (numbers) {
    case Multiplied::kF64:
      return rate_of(table.f64.gemm.peak, n_threads, seconds);
    case Multiplied::kF32:
      return rate_of(table.f32.gemm.peak, n_threads, seconds);
    case Multiplied::kBF16:
      return rate_of(table.bf16.gemm.peak, n_threads, seconds);
    default:
      return rate_of(table.f32.int8.peak, n_threads, seconds);
  }
}

double measure_bandwidth(Traffic traffic, int64_t bytes, int n_threads, double seconds) {
  n_threads = std::min(n_threads, threads());
  constexpr int64_t kGrain = kernels::kStreamGrain;
  const auto& stream = kernels::table().stream;
  const int64_t ends = traffic == Traffic::kCopy ? 2 : 1;
  const int64_t each = std::clamp<int64_t>(bytes, 0, int64_t{1} << 30) / n_threads / ends / 4;
  const int64_t n = std::max(int64_t{2}, each / kGrain) * kGrain;
  std::vector<std::shared_ptr<Buffer>> owners(static_cast<size_t>(n_threads));
  const auto numbers = [&](int64_t t) {
    return reinterpret_cast<float*>(owners[static_cast<size_t>(t)]->data());
  };
  // Where a core's memory is may depend on who touches it first.
  parallel_for(n_threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      owners[static_cast<size_t>(t)] = Buffer::allocate(ends * n * 4);
      fill_random(numbers(t), ends * n);
    }
  });
  // A MiB at a time: many passes of what is small, a part of what is large.
  constexpr int64_t kAtOnce = 1 << 18;
  const int64_t passes = std::max<int64_t>(1, kAtOnce / n);
  std::vector<int64_t> places(static_cast<size_t>(n_threads));
  const auto move = [&](int64_t t) {
    int64_t& place = places[static_cast<size_t>(t)];
    const int64_t count = std::min(kAtOnce, n - place);
    float* x = numbers(t) + place;
    place = place + count < n ? place + count : 0;
    switch (traffic) {
      case Traffic::kRead: {
        [[maybe_unused]] volatile float sum = stream.read(count, x, passes);
        return 4 * count * passes;
      }
      case Traffic::kWrite:
        stream.write(count, 0.5f, x);
        return 4 * count;
      default:
        stream.copy(count, x, x + n);
        return 8 * count;
    }
  };
  double best = 0;
  for (int i = 0; i < kTurns; ++i) {
    double begin = std::numeric_limits<double>::infinity(), end = 0, done = 0;
    for (const Share& s : turn(n_threads, seconds, move)) {
      begin = std::min(begin, s.begin);
      end = std::max(end, s.end);
      done += s.done;
    }
    best = std::max(best, done / (end - begin));
  }
  return best;
}

LevelBytes level_bytes(int n_threads) {
  const CacheSizes& c = cache_sizes();
  const int64_t l1 = n_threads * c.l1, l2 = n_threads * c.l2;
  return {.l1 = l1 / 2,
          .l2 = l2 / 2,
          .l3 = std::max(2 * l2, c.l3 / 2),
          .dram = std::clamp<int64_t>(4 * std::max(l2, c.l3), 256 << 20, 1 << 30)};
}

double peak_flops(Multiplied numbers) {
  static std::map<std::pair<Multiplied, int>, double> known;
  const auto [at, fresh] = known.try_emplace({numbers, threads()});
  if (fresh) at->second = measure_peak(numbers, threads(), 0.1);
  return at->second;
}

double read_bandwidth(int64_t bytes) {
  static std::map<std::pair<int64_t, int>, double> known;
  const auto [at, fresh] = known.try_emplace({bytes, threads()});
  if (fresh) at->second = measure_bandwidth(Traffic::kRead, bytes, threads(), 0.1);
  return at->second;
}

}  // namespace qkv
