#include "qkv/explain/alignment.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace qkv::explain {
namespace {

// The rows of a matrix of f32.
struct Rows {
  Rows(const Tensor& weights, const char* operation) {
    QKV_CHECK(weights.defined() && weights.rank() == 2, kShape, "{}: weights are {}, need [tgt_len, src_len]",
              operation, weights.defined() ? weights.shape().str() : "undefined");
    matrix = weights.contiguous();
    data = matrix.data<float>();
    count = matrix.size(0);
    width = matrix.size(1);
  }
  std::span<const float> operator[](int64_t r) const {
    return {data + r * width, static_cast<size_t>(width)};
  }
  Tensor matrix;
  const float* data;
  int64_t count, width;
};

}  // namespace

Tensor word_attention(const Tensor& weights, const Words& target, const Words& source, bool renormalize) {
  const Rows rows(weights, "word_attention");
  QKV_CHECK(rows.count == static_cast<int64_t>(target.word_of.size()) &&
                rows.width == static_cast<int64_t>(source.word_of.size()),
            kShape, "word_attention: weights are {}, the sentences have {} target and {} source tokens",
            weights.shape().str(), target.word_of.size(), source.word_of.size());
  const auto n_target = static_cast<int64_t>(target.words.size()),
             n_source = static_cast<int64_t>(source.words.size());
  std::vector<double> sum(static_cast<size_t>(n_target * n_source));
  std::vector<int64_t> tokens(static_cast<size_t>(n_target));
  for (int64_t t = 0; t < rows.count; ++t) {
    const int64_t w = target.word_of[static_cast<size_t>(t)];
    if (w < 0) continue;
    ++tokens[static_cast<size_t>(w)];
    for (int64_t s = 0; s < rows.width; ++s) {
      const int64_t v = source.word_of[static_cast<size_t>(s)];
      if (v >= 0)
        sum[static_cast<size_t>(w * n_source + v)] += static_cast<double>(rows[t][static_cast<size_t>(s)]);
    }
  }
  Tensor out = Tensor::zeros({n_target, n_source}, DType::kF32);
  float* const data = out.data<float>();
  for (int64_t w = 0; w < n_target; ++w) {
    const auto row = std::span(sum).subspan(static_cast<size_t>(w * n_source), static_cast<size_t>(n_source));
    double total = static_cast<double>(tokens[static_cast<size_t>(w)]);  // the mean
    if (renormalize) {
      total = 0;
      for (const double x : row) total += x;
    }
    if (total > 0)
      for (size_t v = 0; v < row.size(); ++v)
        data[w * n_source + static_cast<int64_t>(v)] = static_cast<float>(row[v] / total);
  }
  return out;
}

std::vector<Link> hard_alignment(const Tensor& weights, float at_least) {
  const Rows rows(weights, "hard_alignment");
  std::vector<Link> links;
  for (int64_t t = 0; t < rows.count; ++t) {
    const auto row = rows[t];
    int64_t best = -1;
    for (int64_t s = 0; s < rows.width; ++s) {
      const float weight = row[static_cast<size_t>(s)];
      if (weight > 0 && weight >= at_least && (best < 0 || weight > row[static_cast<size_t>(best)])) best = s;
    }
    if (best >= 0) links.push_back({.source = best, .target = t});
  }
  return links;
}

std::string pharaoh(std::span<const Link> links) {
  std::string out;
  for (const Link& link : links) {
    if (!out.empty()) out += ' ';
    fmt::format_to(std::back_inserter(out), "{}-{}", link.source, link.target);
  }
  return out;
}

std::vector<double> row_entropy_bits(const Tensor& weights) {
  const Rows rows(weights, "row_entropy_bits");
  std::vector<double> out;
  for (int64_t t = 0; t < rows.count; ++t) {
    double total = 0, bits = 0;
    for (const float x : rows[t]) total += static_cast<double>(x);
    for (const float x : rows[t])
      if (x > 0) bits -= static_cast<double>(x) / total * std::log2(static_cast<double>(x) / total);
    out.push_back(bits);
  }
  return out;
}

}  // namespace qkv::explain
