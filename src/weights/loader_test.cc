#include "weights/loader.h"

#include <gtest/gtest.h>

#include "weights/testing.h"

namespace hadal {
namespace {

using testing::bytes_of;
using testing::TestCheckpoint;

TEST(Loader, FillsTheOperandsOfEveryWeight) {
  const TestCheckpoint checkpoint({{"small", "BF16", "2", bytes_of<uint16_t>({0x3f80, 0x4000})},
                                   {"large", "F32", "2,3", bytes_of<float>({1, 2, 3, 4, 5, 6})}});
  std::deque<Weight> slots;
  WeightBinder binder(*checkpoint, slots);
  const Weight* small = binder.vector("small", 2);
  const Weight* large = binder.matrix("large", 2, 3);
  ASSERT_TRUE(small && large);
  for (const char* chip : {"ref", "cpu"}) {
    const auto device = Device::open({.chip = chip, .threads = 1});
    ASSERT_TRUE(device);
    auto loader = WeightLoader::plan(**device, slots, WeightMode::kNative);
    ASSERT_TRUE(loader);
    EXPECT_GE(loader->bytes(), small->source.bytes() + large->source.bytes());
    EXPECT_EQ(small->tensor.dtype, static_cast<uint32_t>(HADAL_F32));
    std::vector<uint64_t> seen;
    ASSERT_TRUE(loader->load(checkpoint->files(), [&](uint64_t done, uint64_t total) {
      EXPECT_EQ(total, 28U);
      seen.push_back(done);
    }));
    EXPECT_EQ(seen, (std::vector<uint64_t>{24, 28}));  // the largest first
    EXPECT_NE(small->tensor.weight, nullptr);
    EXPECT_NE(large->tensor.weight, nullptr);
  }
}

}  // namespace
}  // namespace hadal
