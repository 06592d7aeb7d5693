// The kernel table in plain C++, for any machine; the last of the list.
#include "base/floats.h"
#include "kernels/kernels.h"

namespace hadal::cpu::portable {
namespace {
// clang-format off: each needs those above it
#include "kernels/generic/simd_portable.h"
#include "kernels/generic/int_matmul.inc"
#include "kernels/generic/float_matmul.inc"
#include "kernels/generic/rows.inc"
#include "kernels/generic/attention.inc"
#define HADAL_TABLE_NAME "portable"
#define HADAL_TABLE_SETS ""
#include "kernels/generic/table.inc"
// clang-format on
}  // namespace
constexpr KernelTable kTable = make_table();
}  // namespace hadal::cpu::portable
