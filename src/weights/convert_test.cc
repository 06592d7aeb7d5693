#include "weights/convert.h"

#include <gtest/gtest.h>

#include "base/floats.h"

namespace hadal {
namespace {

template <typename T>
WeightSource source_of(DType dtype, const std::vector<T>& values, int64_t rows, int64_t cols) {
  WeightSource s;
  s.name = "w";
  s.dtype = dtype;
  s.uses = HADAL_USE_MATMUL;
  s.rows = rows;
  s.cols = cols;
  s.pieces.push_back({std::as_bytes(std::span(values)), rows, {}});
  return s;
}

std::unique_ptr<Device> reference() {
  auto device = Device::open({.chip = "ref"});
  EXPECT_TRUE(device);
  return *std::move(device);
}

const std::vector<float> kSix = {1, 2, 3, 4, 5, 6};

std::vector<uint16_t> halves() {
  std::vector<uint16_t> out;
  for (const float v : kSix) out.push_back(f32_to_bf16(v));
  return out;
}

TEST(Convert, AWeightThatTheChipTakesStaysAsStored) {
  const auto device = reference();
  const std::vector<uint16_t> values = halves();
  const auto form = held_form(*device, source_of(HADAL_BF16, values, 2, 3), WeightMode::kNative);
  ASSERT_TRUE(form);
  EXPECT_EQ(form->form.dtype, HADAL_BF16);
  EXPECT_TRUE(form->as_stored);
}

TEST(Convert, DecodesEveryWeightToF32WhereThatIsAsked) {
  const auto device = reference();
  const std::vector<uint16_t> values = halves();
  const WeightSource source = source_of(HADAL_BF16, values, 2, 3);
  const auto form = held_form(*device, source, WeightMode::kF32);
  ASSERT_TRUE(form);
  EXPECT_EQ(form->form.dtype, HADAL_F32);
  EXPECT_FALSE(form->as_stored);
  const auto decoded = decode_weight(source);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, kSix);
}

TEST(Convert, AVectorIsF32) {
  const auto device = reference();
  const std::vector<uint16_t> values = halves();
  WeightSource source = source_of(HADAL_BF16, values, 1, 6);
  source.uses = HADAL_USE_VECTOR;
  const auto decoded = held_form(*device, source, WeightMode::kNative);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->form.dtype, HADAL_F32);
  WeightSource stored = source_of(HADAL_F32, kSix, 1, 6);
  stored.uses = HADAL_USE_VECTOR;
  const auto same = held_form(*device, stored, WeightMode::kNative);
  ASSERT_TRUE(same);
  EXPECT_TRUE(same->as_stored);
}

TEST(Convert, ATurnedWeightKeepsItsExactTypeAndIsTurned) {
  const auto device = reference();
  const std::vector<uint16_t> values = halves();
  WeightSource source = source_of(HADAL_BF16, values, 3, 2);  // stored as [2, 3]
  source.pieces[0].rows = 2;
  source.transposed = true;
  const auto form = held_form(*device, source, WeightMode::kNative);
  ASSERT_TRUE(form);
  EXPECT_EQ(form->form.dtype, HADAL_BF16);
  EXPECT_FALSE(form->as_stored);
  const auto decoded = decode_weight(source);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, (std::vector<float>{1, 4, 2, 5, 3, 6}));
  EXPECT_TRUE(load_weight(*device, source, *form, ThreadPool::create(2)->get()));
}

}  // namespace
}  // namespace hadal
