// The kernel table for AVX-512 with VNNI. Compiled with those flags; includes nothing that
// instantiates a standard template.
#include <immintrin.h>

#include "kernels/kernels.h"

namespace hadal::cpu::avx512 {
namespace {
// clang-format off: each needs those above it
#include "kernels/x86/simd_avx512.h"
#include "kernels/x86/row_words_avx512.h"
#include "kernels/generic/int_matmul.inc"
#include "kernels/generic/float_matmul.inc"
#include "kernels/generic/rows.inc"
#include "kernels/generic/attention.inc"
#define HADAL_TABLE_NAME "avx512_vnni"
#define HADAL_TABLE_SETS "avx512f avx512bw avx512dq avx512vl avx512_vnni"
#include "kernels/generic/table.inc"
// clang-format on
}  // namespace
constexpr KernelTable kTable = make_table();
}  // namespace hadal::cpu::avx512
