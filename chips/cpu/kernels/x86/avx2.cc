// The kernel table for AVX2 + FMA + F16C. Compiled with those flags; includes nothing that
// instantiates a standard template.
#include <immintrin.h>

#include "kernels/kernels.h"

namespace hadal::cpu::avx2 {
namespace {
// clang-format off: each needs those above it
#include "kernels/x86/simd_avx2.h"
#include "kernels/x86/dots_avx2.h"
#include "kernels/x86/row_words_avx2.h"
#include "kernels/generic/int_matmul.inc"
#include "kernels/generic/float_matmul.inc"
#include "kernels/generic/rows.inc"
#include "kernels/generic/attention.inc"
#define HADAL_TABLE_NAME "avx2"
#define HADAL_TABLE_SETS "avx2 fma f16c"
#include "kernels/generic/table.inc"
// clang-format on
}  // namespace
constexpr KernelTable kTable = make_table();
}  // namespace hadal::cpu::avx2
