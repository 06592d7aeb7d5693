#include "models/model.h"

namespace hadal {

StepPlanes::StepPlanes(const ModelSpec& spec, std::span<const DType> dtypes,
                       std::span<const int64_t> blocks) {
  for (size_t p = 0; p < spec.planes.size(); ++p) {
    const Plane& plane = spec.planes[p];
    first_.push_back(tensors_.size());
    for (int64_t layer = 0; layer < plane.layers; ++layer) {
      Tensor t =
          make_tensor(dtypes[p], HADAL_SPACE_PLANE, HADAL_DIM_CONST,
                      {blocks[plane.group], spec.groups[plane.group].block_slots, plane.width});
      t.index = static_cast<uint32_t>(tensors_.size());
      tensors_.push_back(t);
    }
  }
}

const Tensor& StepPlanes::of(size_t plane, int64_t layer) const {
  const size_t at = first_.at(plane) + static_cast<size_t>(layer);
  HADAL_CHECK(at < tensors_.size());
  return tensors_[at];
}

}  // namespace hadal
