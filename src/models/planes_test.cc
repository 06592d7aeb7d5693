#include "models/planes.h"

#include <gtest/gtest.h>

#include <array>
#include <stdexcept>

#include "models/spec.h"

namespace hadal {
namespace {

TEST(Planes, ALayerCarriesItsGroupsPagingAndItsRolesType) {
  ModelSpec spec;
  const GroupHandle rows = spec.add_group({.name = "rows"});
  const GroupHandle entries = spec.add_group({.name = "entries", .ratio = 4, .block_slots = 16});
  const PlaneHandle row = spec.add_plane(rows, PlaneRole::kCompressorRow, 1, 8);
  const PlaneHandle entry = spec.add_plane(entries, PlaneRole::kEntry, 2, 6);
  const StepPlanes planes(spec, HADAL_BF16, std::array<int64_t, 2>{10, 3},
                          std::array<uint64_t, 2>{2048, 256});
  EXPECT_EQ(planes.count(), 3U);
  const PlaneLayer& last = planes.of(entry, 1);
  EXPECT_EQ(last.group, entries.index);
  EXPECT_EQ(last.ratio, 4);
  EXPECT_EQ(last.tensor.index, 2U);
  EXPECT_EQ(last.tensor.dtype, static_cast<uint32_t>(HADAL_BF16));
  EXPECT_EQ(last.tensor.extents[0], 3);
  EXPECT_EQ(last.tensor.extents[1], 16);
  EXPECT_EQ(last.tensor.extents[2], 6);
  EXPECT_EQ(last.tensor.strides[0], 256);  // as the chip lays it out
  EXPECT_EQ(last.tensor.flags & HADAL_TENSOR_PLANE_ROLE, uint32_t{HADAL_PLANE_ENTRY});
  EXPECT_EQ(planes.of(row, 0).tensor.dtype, static_cast<uint32_t>(HADAL_F32));
}

TEST(Planes, AHandleThatNobodyGaveOutIsCaught) {
  ModelSpec spec;
  EXPECT_THROW(spec.add_plane({}, PlaneRole::kKey, 1, 8), std::logic_error);
  const PlaneHandle plane = spec.add_plane(spec.add_group({.name = "kv"}), PlaneRole::kKey, 1, 8);
  spec.add_plane(plane.group, PlaneRole::kValue, 1, 8);
  const StepPlanes planes(spec, HADAL_F16, std::array<int64_t, 1>{1},
                          std::array<uint64_t, 2>{1024, 1024});
  EXPECT_THROW((void)planes.of({}, 0), std::logic_error);
  EXPECT_THROW((void)planes.of(plane, 1), std::logic_error);  // not the first of the next plane
}

}  // namespace
}  // namespace hadal
