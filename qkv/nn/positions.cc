#include "qkv/nn/positions.h"

#include <cmath>

#include "qkv/base/quote.h"
#include "qkv/kernels/table.h"

namespace qkv {

Tensor sinusoidal_positions(int64_t max_len, int64_t d, DType dtype) {
  QKV_CHECK(d % 2 == 0, kValue, "sinusoidal positions: d_model {} is odd; each frequency takes two features",
            d);
  const Tensor table = Tensor::empty({max_len, d}, dtype);
  const int64_t half = d / 2;
  kernels::visit_dtype(dtype, [&]<class T>(T) {
    T* values = table.data<T>();
    for (int64_t p = 0; p < max_len; ++p)
      for (int64_t j = 0; j < half; ++j) {
        const double angle = static_cast<double>(p) *
                             std::pow(10000.0, -2.0 * static_cast<double>(j) / static_cast<double>(d));
        values[p * d + j] = static_cast<T>(std::sin(angle));
        values[p * d + half + j] = static_cast<T>(std::cos(angle));
      }
  });
  return table;
}

void check_position_table(const std::string& word, const std::string& where) {
  QKV_CHECK(word == "sinusoidal" || word == "learned" || word == "none", kValue,
            "{}: positions added to embeddings are sinusoidal, learned or none, not {}", where, quote(word));
}

ParameterPtr position_table(const std::string& word, ParameterSet& set, const std::string& name,
                            int64_t max_len, int64_t d, double deviation) {
  check_position_table(word, "positions");
  if (word == "none") return nullptr;
  if (word == "learned") {
    const ParameterPtr learned = set.normal(name, {max_len, d}, deviation);
    learned->set_table(true);
    return learned;
  }
  auto table = std::make_shared<Parameter>("sinusoids", sinusoidal_positions(max_len, d, set.dtype()));
  table->set_trainable(false);
  return table;
}

std::vector<int32_t> places_of_rows(const Segments& segments, size_t n_ids, int64_t max_len,
                                    std::string_view where) {
  QKV_CHECK(static_cast<int64_t>(n_ids) == segments.n_tokens(), kShape,
            "{}: {} ids, but segments of {} tokens", where, n_ids, segments.n_tokens());
  std::vector<int32_t> places;
  places.reserve(n_ids);
  for (int64_t b = 0; b < segments.size(); ++b) {
    const int64_t end = segments.past(b) + segments.length(b);
    QKV_CHECK(end <= max_len, kValue, "{}: a sequence of {} tokens; this model has {} positions", where, end,
              max_len);
    for (int64_t i = segments.past(b); i < end; ++i) places.push_back(static_cast<int32_t>(i));
  }
  return places;
}

}  // namespace qkv
