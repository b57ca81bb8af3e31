#include "qkv/kernels/simd/stream.h"

#include "qkv/kernels/simd/vec_avx2.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_stream_avx2(Table& table) { table.stream = simd::Stream<avx2::Vec>::all(); }

}  // namespace qkv::kernels
