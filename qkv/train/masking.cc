#include "qkv/train/masking.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace qkv {

int64_t n_chosen(int64_t n, double share) {
  return std::min(n, std::max<int64_t>(1, std::llround(share * static_cast<double>(n))));
}

MaskedText mask_words(std::vector<int32_t> ids, const std::vector<RowRange>& texts,
                      const MaskingOptions& options, const RandomKey& key) {
  MaskedText out{.ids = std::move(ids), .rows = {}, .words = {}};
  for (const RowRange& text : texts) {
    // The rows whose random words are least.
    std::vector<std::pair<uint32_t, int64_t>> order;
    for (int64_t row = text.begin; row < text.end; ++row)
      order.emplace_back(random_block(key, static_cast<uint64_t>(row))[0], row);
    const auto chosen = order.begin() + n_chosen(text.size(), options.share);
    std::nth_element(order.begin(), chosen, order.end());
    for (auto each = order.begin(); each != chosen; ++each) out.rows.push_back(each->second);
  }
  std::sort(out.rows.begin(), out.rows.end());
  for (const int64_t row : out.rows) {
    int32_t& id = out.ids[static_cast<size_t>(row)];
    out.words.push_back(id);
    const auto random = random_block(key, static_cast<uint64_t>(row));
    const double fate = static_cast<double>(random[1]) / 4294967296.0;
    if (fate < options.masked)
      id = options.mask_id;
    else if (fate < options.masked + options.random)
      id = static_cast<int32_t>(uint64_t{random[2]} * static_cast<uint64_t>(options.vocab_size) >> 32);
  }
  return out;
}

}  // namespace qkv
