#pragma once
// Tables for people: columns line up, the first to the left and the others to the right.

#include <string>
#include <vector>

namespace qkv::cli {

class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  /// As many cells as the header has; "" is an empty one.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  /// Two blanks between columns, none at the end of a line. Widths are those of a terminal (explain/words.h).
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace qkv::cli
