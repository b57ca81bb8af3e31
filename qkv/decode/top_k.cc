#include "qkv/decode/top_k.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace qkv::decode {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();

// Four floats at a time in the registers that every x86-64 has; the compiler maps it to other machines too.
typedef float Lanes __attribute__((vector_size(16)));

Lanes load(const float* p) {
  Lanes v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

Lanes max(Lanes a, Lanes b) { return a > b ? a : b; }  // maxps: b where either is NaN

}  // namespace

RowScan::RowScan(int64_t n) : n_(n), maxima_(static_cast<size_t>((n + kBlock - 1) / kBlock)) {}

float RowScan::block_max(int64_t block) const {
  const float* p = row_ + block * kBlock;
  const int64_t count = std::min(kBlock, n_ - block * kBlock);
  float best = kNone;
  int64_t i = 0;
  if (count == kBlock) {
    // Four chains, since each maximum waits for the one before it. Loads are the first operand, so that a NaN
    // among them gives way to what was found so far.
    Lanes m0 = {kNone, kNone, kNone, kNone}, m1 = m0, m2 = m0, m3 = m0;
    for (; i < kBlock; i += 16) {
      m0 = max(load(p + i), m0);
      m1 = max(load(p + i + 4), m1);
      m2 = max(load(p + i + 8), m2);
      m3 = max(load(p + i + 12), m3);
    }
    const Lanes m = max(max(m0, m1), max(m2, m3));
    for (int lane = 0; lane < 4; ++lane) best = std::max(best, m[lane]);
  }
  for (; i < count; ++i) best = p[i] > best ? p[i] : best;
  return best;
}

void RowScan::begin(float* row) {
  row_ = row;
  for (int64_t block = 0; block < static_cast<int64_t>(maxima_.size()); ++block)
    maxima_[static_cast<size_t>(block)] = block_max(block);
}

int32_t RowScan::argmax() const {
  const auto largest = std::max_element(maxima_.begin(), maxima_.end());  // the first of equals
  if (largest == maxima_.end() || *largest == kNone) return 0;
  const float* p = row_ + (largest - maxima_.begin()) * kBlock;
  while (*p != *largest) ++p;
  return static_cast<int32_t>(p - row_);
}

void RowScan::remove(int32_t id) {
  row_[id] = kNone;
  maxima_[static_cast<size_t>(id / kBlock)] = block_max(id / kBlock);
}

int64_t RowScan::top(int64_t k, Entry* out) {
  const auto blocks = static_cast<int64_t>(maxima_.size());
  // The k-th largest block maximum. With fewer blocks than k every block may hold one.
  float bound = kNone;
  if (k <= blocks) {
    largest_.assign(static_cast<size_t>(k), kNone);
    float* const list = largest_.data();
    for (const float m : maxima_) {
      if (!(m > list[k - 1])) continue;
      int64_t at = k - 1;
      for (; at > 0 && list[at - 1] < m; --at) list[at] = list[at - 1];
      list[at] = m;
    }
    bound = list[k - 1];
  }

  int64_t found = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    const float largest = maxima_[static_cast<size_t>(block)];
    if (largest < bound || largest == kNone) continue;
    const int64_t begin = block * kBlock, end = std::min(n_, begin + kBlock);
    for (int64_t i = begin; i < end; ++i) {
      const float value = row_[i];
      if (!(value >= bound)) continue;  // nearly all; the rest is worth a mispredicted branch
      const float to_beat = found < k ? kNone : out[k - 1].value;
      if (!(value > to_beat)) continue;  // ids ascend, so an equal value loses against what is there
      int64_t at = found < k ? found++ : k - 1;
      for (; at > 0 && out[at - 1].value < value; --at) out[at] = out[at - 1];
      out[at] = {static_cast<int32_t>(i), value};
    }
  }
  return found;
}

}  // namespace qkv::decode
