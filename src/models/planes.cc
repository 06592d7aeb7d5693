#include "models/planes.h"

#include "models/spec.h"

namespace hadal {

StepPlanes::StepPlanes(const ModelSpec& spec, DType kv_cache_dtype, std::span<const int64_t> blocks,
                       std::span<const uint64_t> block_bytes) {
  first_.push_back(0);
  for (size_t p = 0; p < spec.planes.size(); ++p) {
    const Plane& plane = spec.planes[p];
    const PlaneGroup& group = spec.groups[plane.group];
    for (int64_t layer = 0; layer < plane.layers; ++layer) {
      Tensor t =
          make_tensor(plane_dtype(plane.role, kv_cache_dtype), HADAL_SPACE_PLANE, HADAL_DIM_CONST,
                      {blocks[plane.group], group.block_slots, plane.width});
      t.strides[0] = static_cast<int64_t>(block_bytes[p]);
      t.index = static_cast<uint32_t>(layers_.size());
      t.flags = static_cast<uint32_t>(plane.role);
      layers_.push_back({.tensor = t, .group = plane.group, .ratio = group.ratio});
    }
    first_.push_back(layers_.size());
  }
}

const PlaneLayer& StepPlanes::of(PlaneHandle plane, int64_t layer) const {
  HADAL_CHECK(plane.index < first_.size() - 1 && layer >= 0);
  const size_t at = first_[plane.index] + static_cast<size_t>(layer);
  HADAL_CHECK(at < first_[plane.index + 1]);
  return layers_[at];
}

}  // namespace hadal
