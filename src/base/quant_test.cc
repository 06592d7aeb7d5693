// decode_to_f32 against what the Python package gguf decodes (tests/data/quant_golden.bin), and by
// definition where gguf has no decoder.
#include "base/quant.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "base/floats.h"

namespace hadal {
namespace {

std::vector<char> read_golden() {
  std::ifstream file(std::string(HADAL_TEST_DATA) + "/quant_golden.bin", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

template <typename T>
T take(const std::vector<char>& bytes, size_t& at) {
  T value{};
  EXPECT_LE(at + sizeof value, bytes.size());
  std::memcpy(&value, bytes.data() + at, sizeof value);
  at += sizeof value;
  return value;
}

std::vector<float> decode(DType dtype, const std::vector<uint8_t>& bytes, int64_t values) {
  std::vector<float> out(static_cast<size_t>(values), -1.0f);
  EXPECT_TRUE(decode_to_f32(dtype, bytes.data(), values, out.data())) << dtype_name(dtype);
  return out;
}

bool same_bits(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) ||
         (std::isnan(a) && std::isnan(b));
}

TEST(Quant, EqualsGgufBitForBit) {
  const std::vector<char> bytes = read_golden();
  ASSERT_GT(bytes.size(), 1000u);
  ASSERT_EQ(std::string(bytes.data(), 4), "HQG1");
  size_t at = 8;
  at += take<uint32_t>(bytes, at);
  std::set<uint32_t> seen;
  while (at < bytes.size()) {
    const auto type = take<uint32_t>(bytes, at);
    const auto size = take<uint32_t>(bytes, at);
    const auto values = take<uint32_t>(bytes, at);
    const DTypeInfo* row = dtype_from_ggml(type);
    ASSERT_NE(row, nullptr) << type;
    ASSERT_EQ(row_bytes(row->dtype, values), size) << row->name;
    // From an odd address: tensors in a file need not be aligned.
    std::vector<uint8_t> blocks(size + 1);
    std::memcpy(blocks.data() + 1, bytes.data() + at, size);
    std::vector<float> want(values);
    std::memcpy(want.data(), bytes.data() + at + size, values * sizeof(float));
    at += size + values * sizeof(float);
    std::vector<float> got(values, -1.0f);
    ASSERT_TRUE(decode_to_f32(row->dtype, blocks.data() + 1, values, got.data())) << row->name;
    for (size_t i = 0; i < values; ++i)
      ASSERT_TRUE(same_bits(got[i], want[i]))
          << row->name << " value " << i << ": " << got[i] << ", expected " << want[i];
    seen.insert(type);
  }
  EXPECT_EQ(seen.size(), 25u);
}

TEST(Quant, FormatsByDefinition) {
  std::vector<uint8_t> block(36, 0);
  block[0] = 0x00, block[1] = 0x40;  // f16 2.0
  block[4] = 0xff, block[5] = 127;
  auto out = decode(HADAL_Q8_1, block, 32);
  EXPECT_EQ(out[0], -2.0f);
  EXPECT_EQ(out[1], 254.0f);

  block.assign(18, 0);
  block[0] = 0x00, block[1] = 0x40;
  block[2] = 0x05;
  out = decode(HADAL_Q1_0, block, 128);
  EXPECT_EQ((std::vector<float>(out.begin(), out.begin() + 4)), (std::vector<float>{2, -2, 2, -2}));
  EXPECT_EQ(out[127], -2.0f);

  block.assign(292, 0);
  block[3] = 0x3f;  // f32 0.5
  block[4 + 255] = 0x80;
  EXPECT_EQ(decode(HADAL_Q8_K, block, 256)[255], -64.0f);

  EXPECT_EQ(decode(HADAL_F4_E2M1, {0x21, 0xfa}, 4), (std::vector<float>{0.5f, 1.0f, -1.0f, -6.0f}));
  EXPECT_EQ(decode(HADAL_I16, {0xfe, 0xff, 0x01, 0x01}, 2), (std::vector<float>{-2, 257}));
  EXPECT_EQ(decode(HADAL_U64, std::vector<uint8_t>(8, 0xff), 1),
            (std::vector<float>{18446744073709551616.0f}));
}

TEST(Quant, RefusesWhatHasNoValues) {
  std::vector<uint8_t> bytes(512, 0);
  std::vector<float> out(512);
  EXPECT_FALSE(decode_to_f32(HADAL_BOOL, bytes.data(), 1, out.data()));
  EXPECT_FALSE(decode_to_f32(static_cast<DType>(999), bytes.data(), 1, out.data()));
  EXPECT_FALSE(decode_to_f32(HADAL_Q4_0, bytes.data(), 33, out.data()));
  EXPECT_FALSE(decode_to_f32(HADAL_Q4_K, bytes.data(), 128, out.data()));
  EXPECT_FALSE(decode_to_f32(HADAL_F32, bytes.data(), -1, out.data()));
}

TEST(Quant, EveryTypeOfTheTableDecodes) {
  const std::vector<uint8_t> bytes(4096, 0);
  std::vector<float> out(512);
#define HADAL_DTYPE(name, code, values, size, ggml, st)                        \
  EXPECT_EQ(decode_to_f32(HADAL_##name, bytes.data(), 2 * values, out.data()), \
            HADAL_##name != HADAL_BOOL)                                        \
      << #name;
#include "hadal/dtypes.inc"
#undef HADAL_DTYPE
}

}  // namespace
}  // namespace hadal
