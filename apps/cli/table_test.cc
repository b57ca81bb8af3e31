#include "apps/cli/table.h"

#include <gtest/gtest.h>

namespace qkv::cli {
namespace {

TEST(Table, LinesUpItsColumns) {
  Table table({"path", "ms", "MiB"});
  table.add({"blocked", "1.25", "3"});
  table.add({"Wörter", "", "-"});
  EXPECT_EQ(table.text(),
            "path       ms  MiB\n"
            "blocked  1.25    3\n"
            "Wörter           -\n");
}

TEST(Table, EndsNoLineInBlanks) {
  Table table({"", "value"});
  table.add({"a long name", ""});
  EXPECT_EQ(table.text(), "             value\na long name\n");
}

}  // namespace
}  // namespace qkv::cli
