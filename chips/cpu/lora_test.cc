// lora_add against the chip `ref`, and what no kernel table may let a bit depend on.
#include <gtest/gtest.h>

#include "test_rig.h"

namespace hadal::cpu::testing {
namespace {

std::vector<std::byte> bytes_of(const std::vector<float>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

struct Adapter {
  int64_t rank;
  std::vector<float> a, b;  // [rank, k], [n, rank]
};

constexpr int64_t kK = 100, kN = 37;

Adapter adapter(uint32_t seed, int64_t rank) {
  return {rank, Random(seed).numbers(rank * kK), Random(seed + 1).numbers(kN * rank)};
}

/// Runs rows of sequences by a bank that is padded to `rank`; the rows of OUT.
std::vector<float> run(const char* kernels, int threads, const std::vector<Adapter>& bank,
                       int64_t rank, const std::vector<float>& x, const std::vector<float>& before,
                       const std::vector<int32_t>& uses, const std::vector<int32_t>& row_seq) {
  std::vector<float> a, b;
  for (const Adapter& one : bank) {
    for (int64_t i = 0; i < rank * kK; ++i)
      a.push_back(i < one.rank * kK ? one.a[static_cast<size_t>(i)] : 0.0f);
    for (int64_t n = 0; n < kN; ++n)
      for (int64_t r = 0; r < rank; ++r)
        b.push_back(r < one.rank ? one.b[static_cast<size_t>(n * one.rank + r)] : 0.0f);
  }
  const auto count = static_cast<int64_t>(bank.size()), rows = static_cast<int64_t>(row_seq.size());
  const auto a_bytes = bytes_of(a), b_bytes = bytes_of(b);
  Rig rig(threads, kernels);
  const int32_t xs = rig.f32({rows, kK}, x);
  const int32_t as = rig.weight(HADAL_F32, {count, rank, kK}, a_bytes, HADAL_USE_MATMUL);
  const int32_t bs = rig.weight(HADAL_F32, {count, kN, rank}, b_bytes, HADAL_USE_MATMUL);
  const int32_t which = rig.i32({static_cast<int64_t>(uses.size())}, uses);
  const int32_t seq = rig.i32({rows}, row_seq);
  const int32_t out = rig.f32({rows, kN}, before);
  rig.op(HADAL_OP_LORA_ADD, {xs, as, bs, which, seq, out});
  EXPECT_EQ(rig.run(true), HADAL_OK) << rig.error.text;
  return rig.get<float>(out);
}

TEST(CpuLora, NoBitDependsOnThePaddingTheNeighboursOrTheThreads) {
  const Adapter one = adapter(1, 5), other = adapter(3, 40);
  const int64_t rows = 70;
  const std::vector<float> x = Random(5).numbers(rows * kK), before = Random(6).numbers(rows * kN);
  std::vector<int32_t> mixed, alone(static_cast<size_t>(rows), 0);
  for (int32_t t = 0; t < rows; ++t) mixed.push_back(t * 7 % 3);  // no two neighbours alike
  for (const std::string& name : kernel_names()) {
    const char* kernels = name.c_str();
    const auto own = run(kernels, 1, {one}, 5, x, before, {0}, alone);
    EXPECT_NE(own, before);
    EXPECT_EQ(run(kernels, 1, {one}, 24, x, before, {0}, alone), own) << name << ": padding";
    EXPECT_EQ(run(kernels, 3, {other, one}, 40, x, before, {1}, alone), own) << name << ": bank";
    const auto second = run(kernels, 1, {other}, 40, x, before, {0}, alone);
    const auto among = run(kernels, 2, {one, other}, 40, x, before, {0, -1, 1}, mixed);
    for (int64_t t = 0; t < rows; ++t) {
      const auto row_of = [&](const std::vector<float>& v) {
        return std::vector<float>(v.begin() + t * kN, v.begin() + (t + 1) * kN);
      };
      const int32_t seq = mixed[static_cast<size_t>(t)];
      EXPECT_EQ(row_of(among), row_of(seq == 0 ? own : seq == 1 ? before : second)) << name << t;
    }
  }
}

}  // namespace
}  // namespace hadal::cpu::testing
