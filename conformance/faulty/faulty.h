// A chip with one planted fault: a wrapper around a good chip whose memory is host memory. For
// testing the kit, never used else.
//
// The environment variable HADAL_FAULT chooses a line of faults.inc when the plug-in is queried; 0
// is no fault. A fault either changes what the good chip is told (before.cc) or what it wrote
// (after.cc, anew.cc).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/host_chip.h"
#include "hadal/chip.h"

namespace hadal::faulty {

enum Fault : int {
  kNoFault = 0,
  kOnlyLate = 320,  // no fault: everything is done at queue_sync, and by the rules
#define FAULT(number, check, name, text) name = number,
#include "faults.inc"
#undef FAULT
};

/// One operator on its way to the good chip.
struct Call {
  Fault fault = kNoFault;
  int32_t threads = 0;
  const hadal_tape* tape = nullptr;
  hadal_step* step = nullptr;  ///< a copy
  hadal_op op{};               ///< a copy

  [[nodiscard]] host_chip::View view(uint32_t operand) const {
    return host_chip::view(*tape, op.operands[operand], *step);
  }

  /// Writes `value` at `at` until the operator has run.
  template <typename T>
  void patch(T* at, T value) {
    std::vector<std::byte> old(sizeof(T));
    __builtin_memcpy(old.data(), at, sizeof(T));
    patches.push_back({reinterpret_cast<std::byte*>(at), std::move(old)});
    __builtin_memcpy(at, &value, sizeof(T));
  }
  /// Undoes, after the run, whatever happens to *at.
  template <typename T>
  void keep(T* at) {
    patch(at, *at);
  }

  struct Patch {
    std::byte* at;
    std::vector<std::byte> old;
  };
  std::vector<Patch> patches;
  std::vector<float> saved;  ///< between before and after
};

/// Values of a weight that was made for use vector.
const std::vector<float>& vector_of(const hadal_weight* w);

void before(Call& call);
void after(Call& call);
/// LIST of an index_blocks, and X of an engram_gate, computed anew with the call's fault.
void list_blocks(Call& call);
void gate_streams(Call& call);

/// Operators that this chip takes although the good one declines them.
bool is_fused(uint32_t id);
using OpRun = decltype(hadal_chip::op_run);
hadal_status run_fused(const Call& call, hadal_queue* queue, OpRun good, hadal_error* error);

/// Calls visit(float*) for each element of a float view, row by row.
template <typename Visit>
void each(const host_chip::View& v, Visit visit) {
  if (!v.present() || !v.data) return;
  for (int64_t i = 0; i < v.extents[0]; ++i)
    for (int64_t j = 0; j < (v.rank == 3 ? v.extents[1] : 1); ++j)
      for (int64_t k = 0; k < (v.rank == 1 ? 1 : v.extents[v.rank - 1]); ++k)
        visit(v.row<float>(i, v.rank == 3 ? j : 0) + k);
}

}  // namespace hadal::faulty
