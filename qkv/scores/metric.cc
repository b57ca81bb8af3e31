#include "qkv/scores/metric.h"

#include <fmt/format.h>

#include "qkv/base/parallel.h"

namespace qkv::scores {

std::vector<double> SegmentStats::sum() const {
  std::vector<double> out(static_cast<size_t>(width), 0.0);
  for (int64_t i = 0; i < size(); ++i)
    for (int64_t k = 0; k < width; ++k)
      out[static_cast<size_t>(k)] += values[static_cast<size_t>(i * width + k)];
  return out;
}

Signature::Signature(int64_t n_refs) {
  head_.push_back({"nrefs", "#", n_refs < 0 ? "var" : std::to_string(n_refs)});
}

void Signature::set_resampling(int64_t n_bootstrap, int64_t n_randomizations, uint64_t seed) {
  head_.resize(1);
  if (n_bootstrap > 0) head_.push_back({"bs", "bs", std::to_string(n_bootstrap)});
  if (n_randomizations > 0) head_.push_back({"ar", "ar", std::to_string(n_randomizations)});
  head_.push_back({"seed", "rs", std::to_string(seed)});
}

void Signature::add(std::string key, std::string short_key, std::string value) {
  own_.push_back({std::move(key), std::move(short_key), std::move(value)});
}

std::vector<Signature::Pair> Signature::all() const {
  std::vector<Pair> out = head_;
  out.insert(out.end(), own_.begin(), own_.end());
  out.push_back({"version", "v", std::string("qkv-") + QKV_VERSION});
  return out;
}

std::string Signature::text() const {
  std::string out;
  for (const Pair& p : all()) out += (out.empty() ? "" : "|") + p.key + ":" + p.value;
  return out;
}

std::string Signature::short_text() const {
  std::string out;
  for (const Pair& p : all()) out += (out.empty() ? "" : "|") + p.short_key + ":" + p.value;
  return out;
}

std::vector<std::pair<std::string, std::string>> Signature::pairs() const {
  std::vector<std::pair<std::string, std::string>> out;
  for (const Pair& p : all()) out.emplace_back(p.key, p.value);
  return out;
}

SegmentStats Metric::segment_stats(std::span<const std::string> hyps, const References& refs) const {
  const int64_t n = static_cast<int64_t>(hyps.size());
  QKV_CHECK(n > 0, kValue, "{}: there are no sentences to score", name());
  QKV_CHECK(!refs.empty(), kValue, "{}: there are no references", name());
  for (size_t k = 0; k < refs.size(); ++k) {
    QKV_CHECK(refs[k].size() == hyps.size(), kValue, "{}: {} hypotheses, but reference {} has {} sentences",
              name(), n, k + 1, refs[k].size());
  }

  std::vector<std::vector<std::string_view>> present(static_cast<size_t>(n));
  SegmentStats stats;
  for (int64_t i = 0; i < n; ++i) {
    auto& row = present[static_cast<size_t>(i)];
    for (const auto& column : refs)
      if (const std::string& ref = column[static_cast<size_t>(i)]; !ref.empty()) row.push_back(ref);
    QKV_CHECK(!row.empty(), kValue,
              "{}: sentence {} has no reference: {} empty there; leave the sentence out on both sides",
              name(), i + 1, refs.size() == 1 ? "it is" : "all of them are");
    const int64_t count = static_cast<int64_t>(row.size());
    stats.n_refs = i == 0 || stats.n_refs == count ? count : -1;
  }

  stats.width = width();
  stats.values.assign(static_cast<size_t>(n * stats.width), 0.0);
  parallel_items(n, [&](int64_t i) {
    segment(hyps[static_cast<size_t>(i)], present[static_cast<size_t>(i)],
            std::span(stats.values)
                .subspan(static_cast<size_t>(i * stats.width), static_cast<size_t>(stats.width)));
  });
  return stats;
}

std::string format_line(const Metric& metric, std::span<const double> sums, const std::string& signature,
                        const Interval* interval, int decimals) {
  std::string line = fmt::format("{}|{} = {:.{}f}", metric.name(), signature, metric.score(sums), decimals);
  if (interval != nullptr && interval->mean > 0)
    line += fmt::format(" (μ = {:.{}f} ± {:.{}f})", interval->mean, decimals, interval->half_width, decimals);
  const std::string verbose = metric.verbose(sums);
  return verbose.empty() ? line : line + " " + verbose;
}

}  // namespace qkv::scores
