#include "apps/cli/table.h"

#include <algorithm>

#include "qkv/explain/words.h"

namespace qkv::cli {

std::string Table::text() const {
  std::vector<int64_t> widths(rows_[0].size(), 0);
  for (const auto& row : rows_)
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], explain::display_width(row[c]));
  std::string out;
  for (const auto& row : rows_) {
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string blanks(static_cast<size_t>(widths[c] - explain::display_width(row[c])), ' ');
      if (c > 0) out += "  ";
      out += c == 0 ? row[c] + blanks : blanks + row[c];
    }
    while (out.back() == ' ') out.pop_back();
    out += '\n';
  }
  return out;
}

}  // namespace qkv::cli
