#include "qkv/kernels/simd/stream.h"

#include "qkv/kernels/simd/vec_avx512.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_stream_avx512(Table& table) { table.stream = simd::Stream<avx512::Vec>::all(); }

}  // namespace qkv::kernels
