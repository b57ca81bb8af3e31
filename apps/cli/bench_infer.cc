#include "apps/cli/bench_infer.h"

#include <fmt/core.h>

#include <cmath>

#include "apps/cli/bench_timing.h"
#include "qkv/base/philox.h"
#include "qkv/models/bert.h"

namespace qkv::cli {

void bench_infer(const std::string& which, int64_t batch, const Precision& precision, bool json) {
  QKV_CHECK(which == "bert-base-s128", kValue, "bench infer: no case is called '{}'; there is bert-base-s128",
            which);
  QKV_CHECK(batch >= 1 && batch <= 4096, kValue, "bench infer: batch is {}, needs to be 1 to 4096", batch);
  constexpr int64_t kLength = 128;
  BertConfig config;
  config.masked_lm = false;
  const Bert model(config, ParameterStart(1, precision));
  RandomStream random({.seed = 1});
  std::vector<int32_t> ids(static_cast<size_t>(batch * kLength));
  for (int32_t& id : ids) id = static_cast<int32_t>(random.below(static_cast<uint64_t>(config.vocab_size)));
  const Segments texts(std::vector<int64_t>(static_cast<size_t>(batch), kLength));
  const NoGrad off;
  const Timing timing = timed(
      [&] {
        Pass pass = Pass::running(precision.dtype);
        (void)model(pass, ids, texts);
      },
      7, 2);

  // Floating-point operations of products, as the peer's script counts them.
  const double d = static_cast<double>(config.d_model), d_ff = static_cast<double>(config.d_ff);
  const double flops = static_cast<double>(batch * kLength * config.n_layers) *
                       (2 * (4 * d * d + 2 * d * d_ff) + 4 * static_cast<double>(kLength) * d);
  print_case({.name = fmt::format("bert-base infer s{} b{} {}", kLength, batch, name(precision)),
              .shape = fmt::format("{}x{}", batch, kLength),
              .precision = precision,
              .unit = "seq_s",
              .work = static_cast<double>(batch),
              .more = {{"gflops_best", std::round(flops / timing.min_s / 1e8) / 10},
                       {"gflops_med", std::round(flops / timing.med_s / 1e8) / 10}}},
             timing, json);
}

}  // namespace qkv::cli
