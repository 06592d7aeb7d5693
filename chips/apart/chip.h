// Two stand-ins for discrete, asynchronous accelerators: what the plug-ins and the tests of this
// folder share. Owns the list of kinds and the table of the chip (chip.cc). Not a product: it keeps
// every liberty that the contract leaves to a device of its own memory, so that a host or a kit
// that leans on more than the contract is caught on any machine (README.md).
#pragma once

#include <cstdint>

#include "hadal/chip.h"

namespace hadal::apart {

/// half: bf16 products with fp32 sums, row_invariant. row8: int8 rows times int8 rows, not so.
enum class Kind : uint32_t { kHalf, kRow8 };

constexpr const char* chip_name(Kind kind) {
  return kind == Kind::kHalf ? "apart-half" : "apart-row8";
}
/// The one kernel table of a kind.
constexpr const char* kernels_name(Kind kind) { return kind == Kind::kHalf ? "half" : "row8"; }

/// Of offsets within memories, and of the blocks of planes.
constexpr uint64_t kAlignment = 256;

/// What the plug-in of a kind exports as hadal_chip_query.
hadal_status query(Kind kind, const hadal_host* host, uint32_t abi, hadal_chip* out);

}  // namespace hadal::apart
