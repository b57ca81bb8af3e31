#include "qkv/kernels/table.h"

#include <array>

#include "qkv/base/error.h"

namespace qkv::kernels {
namespace {

Table make(Isa isa) {
  Table t;
  t.isa = isa;
  extend_ref(t);
  if (isa >= Isa::kAvx2) extend_avx2(t);
  if (isa >= Isa::kAvx512) extend_avx512(t);
  if (isa >= Isa::kAmx) extend_amx(t);
  return t;
}

}  // namespace

const Table& table_for(Isa isa) {
  QKV_CHECK(isa <= best_isa(), kUnsupported, "kernels: this CPU has no {} (best is {})", name(isa),
            name(best_isa()));
  static const std::array<Table, 4> tables = [] {
    std::array<Table, 4> all;
    for (int i = 0; i <= static_cast<int>(best_isa()); ++i) all[i] = make(static_cast<Isa>(i));
    return all;
  }();
  return tables[static_cast<int>(isa)];
}

const Table& table() {
  static const Table& chosen = table_for(isa());
  return chosen;
}

}  // namespace qkv::kernels
