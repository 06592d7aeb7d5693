// Planes: what the caches of a model are. A family adds its groups and planes to its ModelSpec and
// keeps the handles; the engine (blocks, prefix cache, memory estimate) works on the lists and
// never learns what attention does with them. Sections 4 and 11 of the contract.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "ops/ops.h"

namespace hadal {

/// Planes that are paged alike: one block table a sequence. All paging is by absolute position.
struct PlaneGroup {
  std::string name;
  int64_t ratio = 1;         ///< positions a slot
  int64_t block_slots = 64;  ///< slots a block
  /// Rows before the next one that a running sequence keeps, at least what a row reads of them; 0:
  /// all of them. A window of w rows, the row's own included, keeps w.
  int64_t keep = 0;
  /// Of those, the rows before a position that must be in the prefix tree for a prefix to be reused
  /// there. Fewer than `keep` where at multiples of the unit of reuse fewer are read: the rows of a
  /// compressor whose entry is complete there. 0: none.
  int64_t keep_at_boundary = 0;
  bool tail = false;  ///< written by the model's tail alone
};

/// What the numbers of a plane are, in the contract's words.
enum class PlaneRole : uint32_t {
  kKey = HADAL_PLANE_KEY,
  kValue = HADAL_PLANE_VALUE,
  kLatent = HADAL_PLANE_LATENT,
  kWindow = HADAL_PLANE_WINDOW,
  kCompressorRow = HADAL_PLANE_COMPRESSOR_ROW,
  kEntry = HADAL_PLANE_ENTRY,
  kIndexKey = HADAL_PLANE_INDEX_KEY,
};

/// The type in which a plane is kept: the user's choice; but rows of a compressor are always fp32,
/// so that only the entry made of them is rounded.
constexpr DType plane_dtype(PlaneRole role, DType kv_cache_dtype) {
  return role == PlaneRole::kCompressorRow ? HADAL_F32 : kv_cache_dtype;
}

/// One cache: [blocks, slots, width] for each of its layers.
struct Plane {
  PlaneRole role = PlaneRole::kKey;
  size_t group = 0;
  int64_t layers = 0;
  int64_t width = 0;  ///< numbers a slot and layer
  int64_t heads = 1;  ///< the width is so many heads side by side
};

/// A group and a plane as ModelSpec gave them out. Unset, they belong to no model.
struct GroupHandle {
  size_t index = SIZE_MAX;
};
struct PlaneHandle {
  size_t index = SIZE_MAX;
  GroupHandle group;
};

struct ModelSpec;

/// The planes of one step as operands.
class StepPlanes {
 public:
  /// blocks[g]: blocks of group g; block_bytes[p]: bytes of a block of a layer of plane p.
  StepPlanes(const ModelSpec& spec, DType kv_cache_dtype, std::span<const int64_t> blocks,
             std::span<const uint64_t> block_bytes);
  /// One layer of a plane; layers are counted within the plane.
  [[nodiscard]] const PlaneLayer& of(PlaneHandle plane, int64_t layer) const;
  /// A memory that a step carries, as an operand, and its group.
  [[nodiscard]] const Tensor& tensor(size_t memory) const { return layers_[memory].tensor; }
  [[nodiscard]] size_t group(size_t memory) const { return layers_[memory].group; }
  /// Layers of all planes together: the number of memories that a step carries.
  [[nodiscard]] uint32_t count() const { return static_cast<uint32_t>(layers_.size()); }

 private:
  std::vector<PlaneLayer> layers_;
  std::vector<size_t> first_;  // of each plane in layers_, and the end
};

}  // namespace hadal
