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
  explicit Bound(const std::vector<StoredTensor>& tensors, std::string_view config = "{}",
                 const Shard& shard = {})
      : checkpoint(tensors, config), binder(*checkpoint, slots, shard) {}
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

/// The weight on the reference chip, read back through an identity: as the chip decodes it.
std::vector<float> on_device(const Weight& w) {
  const auto device = Device::open({.chip = "ref"});
  EXPECT_TRUE(device);
  const auto form = held_form(**device, w.source, WeightMode::kNative);
  EXPECT_TRUE(form && form->as_stored);
  const auto loaded = load_weight(**device, w.source, *form, nullptr);
  EXPECT_TRUE(loaded);
  const int64_t rows = w.source.rows, cols = w.source.cols;
  std::vector<float> in(static_cast<size_t>(cols * cols)), out(static_cast<size_t>(cols * rows));
  for (int64_t i = 0; i < cols; ++i) in[static_cast<size_t>(i * cols + i)] = 1;
  const auto inputs = (*device)->allocate(in.size() * sizeof(float)),
             outputs = (*device)->allocate(out.size() * sizeof(float));
  EXPECT_TRUE((*device)->copy_in(*inputs, 0, std::as_bytes(std::span(in))));
  const Tensor operands[] = {
      make_tensor(HADAL_F32, HADAL_SPACE_INPUT, HADAL_DIM_CONST, {cols, cols}),
      [&] {
        Tensor t = w.tensor;
        t.weight = loaded->weight.get();
        return t;
      }(),
      make_tensor(HADAL_F32, HADAL_SPACE_OUTPUT, HADAL_DIM_CONST, {cols, rows})};
  hadal_op op{};
  op.id = HADAL_OP_MATMUL;
  for (int32_t& operand : op.operands) operand = -1;
  op.operands[HADAL_MATMUL_X] = 0;
  op.operands[HADAL_MATMUL_W] = 1;
  op.operands[HADAL_MATMUL_OUT] = 2;
  hadal_tape tape{};
  tape.size = sizeof tape;
  tape.tensor_count = 3;
  tape.tensors = operands;
  tape.op_count = 1;
  tape.ops = &op;
  for (int64_t& limit : tape.limits) limit = 1;
  hadal_step step{};
  step.size = sizeof step;
  for (int64_t& count : step.rows) count = 1;
  step.inputs = inputs->get();
  step.outputs = outputs->get();
  EXPECT_TRUE((*device)->run_ops(tape, 0, 1, step));
  EXPECT_TRUE((*device)->copy_out(std::as_writable_bytes(std::span(out)), *outputs, 0));
  EXPECT_TRUE((*device)->sync());
  std::vector<float> turned(out.size());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      turned[static_cast<size_t>(r * cols + c)] = out[static_cast<size_t>(c * rows + r)];
  return turned;
}

TEST(Binder, ARankGetsItsRowsAndColumns) {
  const std::vector<float> all = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  Bound b({f32("w.weight", "3,4", all), f32("v", "4", {1, 2, 3, 4})}, "{}", {1, 2});
  const Weight* rows = b.binder.matrix("w.weight", {1, 2, 3}, 4);
  const Weight* cols = b.binder.matrix("w.weight", 3, {2, 2, 4});
  const Weight* both = b.binder.matrix("w.weight", {1, 1, 3}, {1, 2, 4});
  const Weight* part = b.binder.vector("v", Share(2, 2, 4));
  const Weight* first_ranks = b.binder.summand("v", 4);
  ASSERT_TRUE(b.finish());
  EXPECT_EQ(numbers(rows), (std::vector<float>{5, 6, 7, 8, 9, 10, 11, 12}));
  EXPECT_EQ(numbers(cols), (std::vector<float>{3, 4, 7, 8, 11, 12}));
  EXPECT_EQ(on_device(*cols), numbers(cols));
  EXPECT_EQ(cols->source.bytes(), 6 * sizeof(float));
  EXPECT_EQ(cols->tensor.extents[1], 2);
  EXPECT_EQ(numbers(both), (std::vector<float>{6, 7}));
  EXPECT_EQ(numbers(part), (std::vector<float>{3, 4}));
  EXPECT_EQ(first_ranks, nullptr);
  for (const Weight* w : {rows, cols, both, part}) EXPECT_TRUE(w->divided);
  Bound first({f32("v", "4", {1, 2, 3, 4})}, "{}", {0, 2});
  EXPECT_EQ(numbers(first.binder.summand("v", 4)), (std::vector<float>{1, 2, 3, 4}));
}

TEST(Binder, PartsOfFp8TakeTheirScalesAlong) {
  // 4 × 5 in blocks of 2 × 2: scales 1 to 6.
  const std::vector<StoredTensor> tensors = {{"w.weight", "F8_E4M3", "4,5", std::string(20, kOne)},
                                             f32("w.weight_scale_inv", "2,3", {1, 2, 3, 4, 5, 6})};
  Bound b(tensors, kBlocks, {1, 2});
  const Weight* cols = b.binder.matrix("w.weight", 4, {2, 3, 5});
  const Weight* rows = b.binder.matrix("w.weight", {2, 2, 4}, 5);
  const Weight* within = b.binder.matrix("w.weight", {1, 2, 4}, 5);
  ASSERT_TRUE(b.finish());
  const std::vector<float> right = {2, 2, 3, 2, 2, 3, 5, 5, 6, 5, 5, 6};
  EXPECT_EQ(numbers(cols), right);
  EXPECT_EQ(on_device(*cols), right);
  EXPECT_EQ(numbers(rows), (std::vector<float>{4, 4, 5, 5, 6, 4, 4, 5, 5, 6}));
  EXPECT_EQ(on_device(*rows), numbers(rows));
  EXPECT_EQ(numbers(within), (std::vector<float>{1, 1, 2, 2, 3, 4, 4, 5, 5, 6}));
  EXPECT_TRUE(within->source.rebuilt());
  Bound other(tensors, kBlocks, {1, 2});
  EXPECT_EQ(other.binder.matrix("w.weight", 4, {3, 2, 5}), nullptr);
  EXPECT_NE(other.fault().find("cannot be divided over 2 ranks: w.weight: columns 3 to 5 are no "
                               "whole blocks of 2"),
            std::string::npos)
      << other.fault();
}

TEST(Binder, AWidthIsCutAtBlocksOfTheMatrixBehindIt) {
  // Of 5 columns in blocks of 2: three blocks, the last one cut.
  const std::vector<StoredTensor> tensors = {{"w.weight", "F8_E4M3", "1,5", std::string(5, kOne)},
                                             f32("w.weight_scale_inv", "1,3", {1, 2, 3}),
                                             f32("plain.weight", "1,5", {1, 2, 3, 4, 5})};
  const auto width = [&](const Shard& shard, const std::string& name) {
    Bound b(tensors, kBlocks, shard);
    const Share share = b.binder.width(name, 5);
    return std::pair(share.first, share.count);
  };
  EXPECT_EQ(width({0, 2}, "w.weight"), std::pair(int64_t{0}, int64_t{2}));
  EXPECT_EQ(width({1, 2}, "w.weight"), std::pair(int64_t{2}, int64_t{3}));
  EXPECT_EQ(width({2, 3}, "w.weight"), std::pair(int64_t{4}, int64_t{1}));
  EXPECT_EQ(width({4, 5}, "plain.weight"), std::pair(int64_t{4}, int64_t{1}));
  Bound b(tensors, kBlocks, {0, 4});
  (void)b.binder.width("w.weight", 5);
  (void)b.binder.matrix("w.weight", 1, 5);
  (void)b.binder.matrix("plain.weight", 1, 5);
  EXPECT_NE(b.fault().find("cannot be divided over 4 ranks: w.weight: its 5 columns are 3 blocks"),
            std::string::npos)
      << b.fault();
}

TEST(Binder, ExpertsOfOtherRanksAreKnown) {
  Bound apart({f32("e.0.w", "1,1", {1}), f32("e.1.w", "1,1", {2}), f32("e.2.w", "1,1", {3})}, "{}",
              {1, 2});
  Bound merged({f32("e.w", "3,1,1", {1, 2, 3})}, "{}", {1, 2});
  for (Bound* b : {&apart, &merged}) {
    const Weight* w = b->binder.experts("e.", "w", {1, 2, 3}, 1, 1);
    ASSERT_TRUE(b->finish());
    EXPECT_EQ(numbers(w), (std::vector<float>{2, 3}));
  }
}

TEST(Share, CoversEverythingOnceInWholeUnits) {
  for (const int64_t all : {1, 7, 88, 1408})
    for (const int64_t unit : {1, 32, 256})
      for (int64_t ranks = 1; ranks <= 8; ++ranks) {
        int64_t next = 0;
        for (int64_t r = 0; r < ranks; ++r) {
          const Share s = Share::of_rank(all, {r, ranks}, unit);
          EXPECT_EQ(s.first, next);
          EXPECT_EQ(s.of, all);
          EXPECT_TRUE(s.end() % unit == 0 || s.end() == all);
          EXPECT_TRUE(s.count > 0 || (all + unit - 1) / unit < ranks);
          next = s.end();
        }
        EXPECT_EQ(next, all);
      }
}

}  // namespace
}  // namespace hadal
