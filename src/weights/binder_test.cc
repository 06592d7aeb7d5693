#include "weights/binder.h"

#include <gtest/gtest.h>

#include "weights/convert.h"
#include "weights/testing.h"

namespace hadal {
namespace {

using testing::bytes_of;
using testing::StoredTensor;
using testing::TestCheckpoint;

constexpr char kOne = 0x38, kTwo = 0x40, kHalf = 0x30;  // of FP8 E4M3

/// A checkpoint, a binder on it, and what it bound.
struct Bound {
  explicit Bound(const std::vector<StoredTensor>& tensors, std::string_view config = "{}")
      : checkpoint(tensors, config), binder(*checkpoint, slots) {}
  Status finish() { return binder.finish(unused); }
  std::string fault() {
    const Status status = finish();
    return status ? "" : status.error().message;
  }
  TestCheckpoint checkpoint;
  std::deque<Weight> slots;
  std::vector<std::string> unused;
  WeightBinder binder;
};

StoredTensor f32(const std::string& name, const std::string& shape,
                 const std::vector<float>& values) {
  return {name, "F32", shape, bytes_of(values)};
}

std::vector<float> numbers(const Weight* w) {
  if (!w) return {};
  const auto values = decode_weight(w->source);
  return values ? *values : std::vector<float>{};
}

TEST(Binder, OneErrorListsWhatIsMissingSurplusAndMisshapen) {
  Bound b({f32("turned.weight", "2,1", {1, 2}),
           f32("strange.weight", "1", {1}),
           {"ids.weight", "I32", "1,1", bytes_of<int32_t>({7})}});
  EXPECT_EQ(b.binder.matrix("absent.weight", 1, 1), nullptr);
  EXPECT_EQ(b.binder.matrix("turned.weight", 1, 2), nullptr);
  EXPECT_EQ(b.binder.vector("ids.weight", 1), nullptr);
  const std::string fault = b.fault();
  for (const char* said :
       {"1 missing: absent.weight", "turned.weight is [2, 1], expected [1, 2]",
        "ids.weight is [1, 1], expected [1]", "1 unknown to this architecture: strange.weight"})
    EXPECT_NE(fault.find(said), std::string::npos) << said << " is not in: " << fault;
}

TEST(Binder, WholeNumbersAreNoWeights) {
  Bound b({{"ids", "I32", "2", bytes_of<int32_t>({7, 8})}});
  EXPECT_EQ(b.binder.vector("ids", 2), nullptr);
  EXPECT_NE(b.fault().find("ids is of type"), std::string::npos);
  Bound table({{"ids", "I32", "1,2", bytes_of<int32_t>({7, 8})}});
  EXPECT_NE(table.binder.indices("ids", 1, 2), nullptr);
  EXPECT_TRUE(table.finish());
}

TEST(Binder, KnowsWhatMayBeThereUnused) {
  Bound b({f32("mtp.0.w", "1", {1}), f32("model.layers.2.w", "1", {1}), f32("exact", "1", {1})});
  b.binder.known_unused("mtp.*");
  b.binder.known_unused("exact");
  b.binder.known_unused_layers("model.layers.", 2, 1);
  ASSERT_TRUE(b.finish());
  EXPECT_EQ(b.unused.size(), 3U);
  Bound other({f32("exactly", "1", {1}), f32("model.layers.20.w", "1", {1})});
  other.binder.known_unused("exact");
  other.binder.known_unused_layers("model.layers.", 2, 1);
  EXPECT_NE(other.fault().find("2 unknown"), std::string::npos);
}

TEST(Binder, OneSlotHasTheUsesOfATiedEmbedding) {
  Bound b({f32("embed.weight", "2,2", {1, 2, 3, 4})});
  const Weight* w = b.binder.matrix("embed.weight", 2, 2, HADAL_USE_GATHER | HADAL_USE_MATMUL);
  ASSERT_TRUE(b.finish());
  EXPECT_EQ(b.slots.size(), 1U);
  EXPECT_EQ(w->source.uses, uint32_t{HADAL_USE_GATHER} | uint32_t{HADAL_USE_MATMUL});
  EXPECT_EQ(w->tensor.extents[1], 2);
}

// Blocks of 2 × 2 in a matrix of 3 × 3: the last block of each direction is cut.
constexpr char kBlocks[] =
    R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [2, 2]}})";

TEST(Binder, Fp8HasItsBlockScales) {
  const std::string ones(9, kOne);
  Bound b({{"w.weight", "F8_E4M3", "3,3", ones}, f32("w.weight_scale_inv", "2,2", {1, 2, 3, 4})},
          kBlocks);
  const Weight* w = b.binder.matrix("w.weight", 3, 3);
  ASSERT_TRUE(b.finish());
  EXPECT_EQ(numbers(w), (std::vector<float>{1, 1, 2, 1, 1, 2, 3, 3, 4}));
}

TEST(Binder, Fp8WithoutItsScalesIsAnError) {
  Bound absent({{"w.weight", "F8_E4M3", "1,1", {kOne}}}, kBlocks);
  EXPECT_EQ(absent.binder.matrix("w.weight", 1, 1), nullptr);
  EXPECT_NE(absent.fault().find("1 missing: w.weight_scale_inv"), std::string::npos);
  Bound misshapen(
      {{"w.weight", "F8_E4M3", "3,3", std::string(9, kOne)}, f32("w.weight_scale_inv", "1,1", {1})},
      kBlocks);
  EXPECT_EQ(misshapen.binder.matrix("w.weight", 3, 3), nullptr);
  EXPECT_NE(misshapen.fault().find("w.weight_scale_inv is [1, 1], expected [2, 2]"),
            std::string::npos);
}

TEST(Binder, ABlockSizeThatCannotBeIsAnError) {
  for (const char* size : {"[0, 128]", "[128]", "\"x\"", "[9223372036854775807, 1]"}) {
    Bound b({}, R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": )" +
                    std::string(size) + "}}");
    EXPECT_NE(b.fault().find("weight_block_size"), std::string::npos) << size;
  }
}

TEST(Binder, Fp4IsPackedTheEvenColumnInTheLowHalf) {
  std::string data(16, '\x21');  // 0.5 (code 1), then 1 (code 2)
  data[15] = '\x7f';             // -6 (code 15), then 6 (code 7)
  Bound b({{"w.weight", "I8", "1,16", data}, {"w.scale", "F8_E8M0", "1,1", "\x80"}});
  const Weight* w = b.binder.matrix("w.weight", 1, 32);
  ASSERT_TRUE(b.finish());
  EXPECT_EQ(w->source.dtype, HADAL_F4_E2M1);
  const std::vector<float> values = numbers(w);
  ASSERT_EQ(values.size(), 32U);
  EXPECT_EQ(values[0], 0.5F * 2);
  EXPECT_EQ(values[1], 1.0F * 2);
  EXPECT_EQ(values[30], -6.0F * 2);
  EXPECT_EQ(values[31], 6.0F * 2);
}

TEST(Binder, ExpertsAreTheSameApartOrInOneTensor) {
  Bound apart({f32("e.0.w", "2,2", {1, 2, 3, 4}), f32("e.1.w", "2,2", {5, 6, 7, 8})});
  Bound merged({f32("e.w", "2,2,2", {1, 2, 3, 4, 5, 6, 7, 8})});
  for (Bound* b : {&apart, &merged}) {
    const Weight* w = b->binder.experts("e.", "w", 2, 2, 2, 0.5);
    ASSERT_TRUE(b->finish());
    EXPECT_EQ(numbers(w), (std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8}));
    EXPECT_EQ(w->active, 0.5);
    EXPECT_EQ(w->tensor.extents[0], 2);
  }
}

TEST(Binder, ExpertsOfTwoTypesAreRefused) {
  Bound b({f32("e.0.w", "1,1", {1}), {"e.1.w", "BF16", "1,1", bytes_of<uint16_t>({0x3f80})}});
  EXPECT_EQ(b.binder.experts("e.", "w", 2, 1, 1), nullptr);
  EXPECT_NE(b.fault().find("e.1.w is of type"), std::string::npos);
}

TEST(Binder, RowsOfHeadsAreTakenOutAndTurned) {
  // Two heads of three rows: one of a key, two of a value.
  const std::vector<float> rows = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  Bound b({f32("kv.weight", "6,2", rows)});
  const Weight* keys = b.binder.head_rows("kv.weight", 2, 3, 0, 1, 2, true);
  const Weight* values = b.binder.head_rows("kv.weight", 2, 3, 1, 2, 2, false);
  const Weight* turned = b.binder.head_rows("kv.weight", 2, 3, 1, 2, 2, true);
  ASSERT_TRUE(b.finish());
  EXPECT_EQ(numbers(keys), (std::vector<float>{1, 2, 7, 8}));
  EXPECT_EQ(keys->tensor.extents[1], 2);
  EXPECT_EQ(keys->tensor.extents[2], 1);
  EXPECT_EQ(numbers(values), (std::vector<float>{3, 4, 5, 6, 9, 10, 11, 12}));
  EXPECT_FALSE(values->source.rebuilt());
  EXPECT_EQ(numbers(turned), (std::vector<float>{3, 5, 4, 6, 9, 11, 10, 12}));
  EXPECT_TRUE(turned->source.rebuilt());
}

TEST(Binder, RowsOfHeadsKeepTheirPlaceInTheBlocksOfScales) {
  // Heads of three rows, blocks of two: the second head begins within a block.
  const std::string data = {kOne, kOne, kOne, kTwo, kTwo, kHalf};
  Bound b({{"kv.weight", "F8_E4M3", "6,1", data}, f32("kv.weight_scale_inv", "3,1", {1, 10, 100})},
          kBlocks);
  const Weight* w = b.binder.head_rows("kv.weight", 2, 3, 0, 3, 1, false);
  ASSERT_TRUE(b.finish());
  EXPECT_TRUE(w->source.rebuilt());
  EXPECT_EQ(numbers(w), (std::vector<float>{1, 1, 10, 20, 200, 50}));
}

}  // namespace
}  // namespace hadal
