// All operators but matmul, against the chip `ref`; programs against op_run; what must be refused.
#include <gtest/gtest.h>

#include <functional>
#include <numeric>

#include "test_rig.h"

namespace hadal::cpu::testing {
namespace {

using Build = std::function<std::vector<int32_t>(Rig&)>;  ///< fills the rig, returns the outputs

void close_to(const std::vector<float>& a, const std::vector<float>& b, double tolerance,
              const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    ASSERT_NEAR(static_cast<double>(a[i]), static_cast<double>(b[i]),
                tolerance * (1.0 + std::fabs(static_cast<double>(b[i]))))
        << what << " at " << i;
}

/// The same tape on ref and on cpu (tables, threads, op_run and program): close to ref, equal bits
/// within a table.
void against_ref(const Build& build, double tolerance = 2e-6) {
  Rig ref(1, nullptr, hadal_ref_chip_query);
  const auto wanted_ids = build(ref);
  ASSERT_EQ(ref.run(false), HADAL_OK) << ref.error.text;
  for (const std::string& kernels : kernel_names()) {
    std::vector<std::vector<float>> first;
    for (const int threads : {1, 2, 3})
      for (const bool program : {false, true}) {
        Rig rig(threads, kernels.c_str());
        const auto ids = build(rig);
        ASSERT_EQ(rig.run(program), HADAL_OK) << rig.error.text;
        std::vector<std::vector<float>> got;
        for (size_t i = 0; i < ids.size(); ++i) {
          got.push_back(rig.get<float>(ids[i]));
          close_to(got.back(), ref.get<float>(wanted_ids[i]), tolerance,
                   kernels + " output " + std::to_string(i));
          if (::testing::Test::HasFatalFailure()) return;
        }
        if (first.empty()) first = got;
        for (size_t i = 0; i < got.size(); ++i)
          ASSERT_EQ(std::memcmp(got[i].data(), first[i].data(), got[i].size() * 4), 0)
              << kernels << " threads " << threads << " program " << program;
      }
  }
}

TEST(CpuOps, Norm) {
  for (const int64_t n : {1, 7, 64, 67, 576})
    for (const bool layer : {false, true})
      against_ref(
          [&](Rig& rig) {
            const int32_t x = rig.f32({5, n}, Random(1).numbers(5 * n)),
                          r = rig.f32({5, n}, Random(2).numbers(5 * n)), out = rig.f32({5, n});
            const int32_t w = rig.vector(Random(3).numbers(n)),
                          b = rig.vector(Random(4).numbers(n));
            rig.op(HADAL_OP_NORM, {x, w, layer ? b : -1, r, out}).attr.norm = {1e-5f,
                                                                               layer ? 1u : 0u};
            const int32_t heads = rig.f32({5, 3, n}, Random(5).numbers(15 * n));
            rig.op(HADAL_OP_NORM, {heads, -1, -1, -1, heads}).attr.norm = {1e-6f, 0};
            return std::vector<int32_t>{r, out, heads};
          },
          n == 1 && layer ? 1e-2 : 1e-5);
}

TEST(CpuOps, RopeSwigluAddConvertGather) {
  for (const uint32_t interleaved : {0u, 1u})
    against_ref(
        [&](Rig& rig) {
          const int64_t t = 9, h = 3, d = 22;
          rig.limits[HADAL_DIM_T] = rig.rows[HADAL_DIM_T] = t;
          const int32_t x = rig.f32({1, h, d}, Random(1).numbers(t * h * d), HADAL_DIM_T),
                        y = rig.f32({1, h, d}, Random(2).numbers(t * h * d), HADAL_DIM_T);
          const int32_t pos = rig.i32({1}, {0, 1, 2, 3, 100, 7777, 131071, 5, 3}, HADAL_DIM_T);
          const int32_t freq =
              rig.vector({1.0f, 0.5f, 0.1f, 0.03f, 1e-3f, 1e-4f, 0.7f, 0.2f, 0.01f});
          rig.op(HADAL_OP_ROPE, {x, pos, freq}).attr.rope = {2, 18, interleaved, 0, 1, 1.1f};
          rig.op(HADAL_OP_ROPE, {y, pos, freq}).attr.rope = {0, 18, interleaved, 1, 4, 1.0f};
          rig.op(HADAL_OP_ROPE, {y, pos, freq}).attr.rope = {2, 18, interleaved, 0, 1, 1.1f};
          const int32_t g = rig.f32({1, 2050}, Random(3).numbers(t * 2050, 30.0f), HADAL_DIM_T),
                        u = rig.f32({1, 2050}, Random(4).numbers(t * 2050), HADAL_DIM_T);
          const int32_t w = rig.f32({1}, Random(5).numbers(t), HADAL_DIM_T),
                        s = rig.f32({1, 2050}, {}, HADAL_DIM_T);
          rig.op(HADAL_OP_SWIGLU, {g, u, w, s}).attr.swiglu.clamp = interleaved ? 7.0f : 0.0f;
          rig.op(HADAL_OP_ADD, {u, s});
          const int32_t half =
              rig.tensor<uint16_t>(HADAL_SPACE_SCRATCH, interleaved ? HADAL_F16 : HADAL_BF16,
                                   {1, 2050}, {}, HADAL_DIM_T);
          const int32_t back = rig.f32({1, 2050}, {}, HADAL_DIM_T);
          rig.op(HADAL_OP_CONVERT, {u, half});
          rig.op(HADAL_OP_CONVERT, {half, back});
          rig.limits[HADAL_DIM_R] = rig.rows[HADAL_DIM_R] = 3;
          const int32_t index = rig.i32({1}, {8, 0, 8}, HADAL_DIM_R),
                        picked = rig.f32({1, 2050}, {}, HADAL_DIM_R);
          rig.op(HADAL_OP_GATHER_ROWS, {back, index, picked});
          return std::vector<int32_t>{x, y, s, u, back, picked};
        },
        1e-2);  // f16 may round a last bit of its input the other way; tight below
  against_ref(
      [&](Rig& rig) {
        const int32_t g = rig.f32({1, 4000}, Random(3).numbers(4000, 80.0f)),
                      u = rig.f32({1, 4000}, Random(4).numbers(4000)), s = rig.f32({1, 4000});
        rig.op(HADAL_OP_SWIGLU, {g, u, -1, s});
        return std::vector<int32_t>{s};
      },
      3e-7);
}

struct Attention {
  hadal_dtype plane;
  int64_t heads, kv_heads, dim, dim_v, slots, context;
  uint32_t window;
  bool sink;
  std::vector<int32_t> positions, sequences;
};

std::vector<int32_t> build_attention(Rig& rig, const Attention& a, bool only_last = false) {
  const auto rows = static_cast<int64_t>(a.positions.size()), sequences = int64_t{3};
  const int64_t per_sequence = (a.context + a.slots - 1) / a.slots,
                blocks = sequences * per_sequence;
  rig.limits[HADAL_DIM_U] = rig.rows[HADAL_DIM_U] = sequences * a.context;
  rig.limits[HADAL_DIM_S] = rig.rows[HADAL_DIM_S] = sequences;
  const int64_t from = only_last ? rows - 1 : 0, used = rows - from;
  rig.limits[HADAL_DIM_T] = rows;
  rig.rows[HADAL_DIM_T] = used;
  // Fill the cache by kv_write, blocks in mixed order.
  std::vector<int32_t> table, position, sequence;
  for (int64_t s = 0; s < sequences; ++s)
    for (int64_t i = 0; i < per_sequence; ++i)
      table.push_back(static_cast<int32_t>((s * per_sequence + i) * 7 % blocks));
  if (blocks % 7 == 0)
    for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(table.size() - 1 - i);
  for (int32_t s = 0; s < sequences; ++s)
    for (int32_t p = 0; p < a.context; ++p) {
      position.push_back(p);
      sequence.push_back(s);
    }
  const int64_t all = sequences * a.context;
  const int32_t k = rig.plane(a.plane, {blocks, a.slots, a.kv_heads * a.dim}),
                v = rig.plane(a.plane, {blocks, a.slots, a.kv_heads * a.dim_v});
  const int32_t k_rows = rig.f32({1, a.kv_heads * a.dim},
                                 Random(11).numbers(all * a.kv_heads * a.dim, 2.0f), HADAL_DIM_U);
  const int32_t v_rows = rig.f32({1, a.kv_heads * a.dim_v},
                                 Random(12).numbers(all * a.kv_heads * a.dim_v), HADAL_DIM_U);
  const int32_t pos = rig.i32({1}, position, HADAL_DIM_U),
                seq = rig.i32({1}, sequence, HADAL_DIM_U);
  const int32_t tables = rig.i32({1, per_sequence}, table, HADAL_DIM_S),
                write_from = rig.i32({1}, {0, 0, 0}, HADAL_DIM_S);
  const int32_t first = rig.i32({1}, {0, 1, 5}, HADAL_DIM_S);
  rig.op(HADAL_OP_KV_WRITE, {k_rows, k, pos, seq, tables, write_from}).attr.kv_write.ratio = 1;
  rig.op(HADAL_OP_KV_WRITE, {v_rows, v, pos, seq, tables, write_from}).attr.kv_write.ratio = 1;
  const auto q_values = Random(13).numbers(rows * a.heads * a.dim);
  const int32_t q = rig.f32(
      {1, a.heads, a.dim},
      std::vector<float>(q_values.begin() + from * a.heads * a.dim, q_values.end()), HADAL_DIM_T);
  const int32_t qp = rig.i32(
      {1}, std::vector<int32_t>(a.positions.begin() + from, a.positions.end()), HADAL_DIM_T);
  const int32_t qs = rig.i32(
      {1}, std::vector<int32_t>(a.sequences.begin() + from, a.sequences.end()), HADAL_DIM_T);
  const int32_t out = rig.f32({1, a.heads, a.dim_v}, {}, HADAL_DIM_T);
  const int32_t sink = a.sink ? rig.vector(Random(14).numbers(a.heads, 3.0f)) : -1;
  rig.op(HADAL_OP_GQA_ATTENTION, {q, k, v, qp, qs, tables, first, sink, out}).attr.attention = {
      0.3f, static_cast<uint32_t>(a.kv_heads), a.window};
  return {out};
}

TEST(CpuOps, Attention) {
  const std::vector<Attention> cases = {
      {HADAL_F16,
       9,
       3,
       64,
       64,
       16,
       200,
       0,
       false,
       {199, 3, 0, 64, 65, 127, 128},
       {0, 1, 1, 2, 2, 2, 0}},
      {HADAL_BF16,
       4,
       2,
       40,
       24,
       32,
       150,
       33,
       true,
       {149, 0, 31, 32, 33, 100, 4},
       {0, 0, 1, 1, 1, 2, 2}},
      {HADAL_F32, 2, 1, 13, 5, 7, 70, 0, true, {69, 68, 67, 1, 0}, {0, 0, 0, 2, 1}},
      {HADAL_F32,
       8,
       8,
       128,
       128,
       64,
       70,
       64,
       false,
       {0, 1, 2, 3, 4, 5, 6, 7, 8, 63, 64, 65, 66},
       {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
  };
  for (const Attention& a : cases) {
    against_ref([&](Rig& rig) { return build_attention(rig, a); }, 2e-5);
    if (HasFatalFailure()) return;
    // The bits of the last row alone.
    for (const std::string& kernels : kernel_names()) {
      Rig all(2, kernels.c_str()), one(3, kernels.c_str());
      const int32_t x = build_attention(all, a)[0], y = build_attention(one, a, true)[0];
      ASSERT_EQ(all.run(true), HADAL_OK);
      ASSERT_EQ(one.run(true), HADAL_OK);
      const auto whole = all.get<float>(x), single = one.get<float>(y);
      EXPECT_EQ(std::memcmp(whole.data() + whole.size() - single.size(), single.data(),
                            single.size() * 4),
                0)
          << kernels;
    }
  }
}

/// Two segments of 1500 positions, one of them by a list, 16 heads.
std::vector<int32_t> build_latent(Rig& rig) {
  constexpr int64_t kContext = 1500, kSlots = 64, kHeads = 16, kDim = 64, kTail = 24, kDimV = 56;
  constexpr int64_t kBlocks = (kContext + kSlots - 1) / kSlots, kEntries = kContext / 2;
  rig.limits[HADAL_DIM_U] = rig.rows[HADAL_DIM_U] = kContext;
  rig.limits[HADAL_DIM_S] = rig.rows[HADAL_DIM_S] = 1;
  rig.limits[HADAL_DIM_T] = rig.rows[HADAL_DIM_T] = 2;
  std::vector<int32_t> position(kContext), table(kBlocks), list;
  std::iota(position.begin(), position.end(), 0);
  for (int64_t i = 0; i < kBlocks; ++i) table[i] = static_cast<int32_t>(i * 7 % kBlocks);
  for (int32_t e = 3; e < kEntries - 100; e += e % 5 == 0 ? 2 : 1) list.push_back(e);
  const auto listed = static_cast<int64_t>(list.size());
  for (int64_t i = 0; i < listed; ++i) list.push_back(i < 40 ? static_cast<int32_t>(i) : -1);
  const int32_t planes[] = {rig.plane(HADAL_F16, {kBlocks, kSlots, kDim + kTail}),
                            rig.plane(HADAL_BF16, {kBlocks, kSlots, kDim + kTail})};
  const int32_t pos = rig.i32({1}, position, HADAL_DIM_U),
                seq = rig.i32({1}, std::vector<int32_t>(kContext, 0), HADAL_DIM_U),
                tables = rig.i32({1, kBlocks}, table, HADAL_DIM_S),
                write_from = rig.i32({1}, {0}, HADAL_DIM_S);
  for (int i = 0; i < 2; ++i) {
    const int32_t x = rig.f32({1, kDim + kTail},
                              Random(21 + i).numbers(kContext * (kDim + kTail), 2.0f), HADAL_DIM_U);
    rig.op(HADAL_OP_KV_WRITE, {x, planes[i], pos, seq, tables, write_from}).attr.kv_write.ratio =
        static_cast<uint32_t>(i + 1);
  }
  const int32_t q = rig.f32({1, kHeads, kDim}, Random(23).numbers(2 * kHeads * kDim), HADAL_DIM_T),
                tail = rig.f32({1, kHeads, kTail}, Random(24).numbers(2 * kHeads * kTail),
                               HADAL_DIM_T),
                at = rig.i32({1}, {1499, 1100}, HADAL_DIM_T),
                of = rig.i32({1}, {0, 0}, HADAL_DIM_T), first = rig.i32({1}, {5}, HADAL_DIM_S),
                chosen = rig.i32({1, listed}, list, HADAL_DIM_T),
                out = rig.f32({1, kHeads, kDimV}, {}, HADAL_DIM_T),
                sink = rig.vector(Random(25).numbers(kHeads, 3.0f));
  hadal_latent_attr& attr =
      rig.op(HADAL_OP_LATENT_ATTENTION, {q, tail, at, of, planes[0], tables, first, -1, planes[1],
                                         tables, first, chosen, sink, out})
          .attr.latent;
  attr.scale = 0.2f;
  attr.segments[0].ratio = 1;
  attr.segments[1].ratio = 2;
  return {out};
}

/// The bits with one thread, which never splits, and with others.
template <typename Build>
void split_bits(Build&& build, int64_t rows) {
  std::vector<std::vector<float>> got;
  for (const int threads : {1, 2, 3}) {
    Rig rig(threads);
    const int32_t out = build(rig)[0];
    rig.rows[HADAL_DIM_U] = rows;
    ASSERT_EQ(rig.run(true), HADAL_OK) << rig.error.text;
    // Once more with the cache filled and few rows of every kind: the split form.
    rig.ops.erase(rig.ops.begin(), rig.ops.begin() + 2);
    rig.rows[HADAL_DIM_U] = 0;
    ASSERT_EQ(rig.run(true), HADAL_OK) << rig.error.text;
    got.push_back(rig.get<float>(out));
  }
  EXPECT_EQ(got[0], got[1]);
  EXPECT_EQ(got[0], got[2]);
}

TEST(CpuOps, LongAttentionSplitsOverPiecesWithTheSameBits) {
  const Attention a{HADAL_F16, 6, 2, 64, 64, 64, 1500, 0, true, {1499, 1200, 77}, {0, 1, 2}};
  const auto build = [&](Rig& rig) { return build_attention(rig, a); };
  against_ref(build, 2e-5);
  split_bits(build, 3 * a.context);
  against_ref(build_latent, 2e-5);
  split_bits(build_latent, 1500);
}

TEST(CpuOps, CacheBlocksAreCopiedAndProtected) {
  Rig rig(2);
  rig.limits[HADAL_DIM_T] = rig.rows[HADAL_DIM_T] = 6;
  rig.limits[HADAL_DIM_S] = rig.rows[HADAL_DIM_S] = 2;
  const int32_t plane = rig.plane(HADAL_F32, {4, 2, 3});
  const int32_t x =
      rig.f32({1, 3}, {0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5}, HADAL_DIM_T);
  const int32_t pos = rig.i32({1}, {0, 1, 2, 3, 1, 2}, HADAL_DIM_T),
                seq = rig.i32({1}, {0, 0, 0, 0, 1, 1}, HADAL_DIM_T);
  const int32_t table = rig.i32({1, 2}, {2, 0, 3, -1}, HADAL_DIM_S),
                from = rig.i32({1}, {1, 0}, HADAL_DIM_S);
  rig.op(HADAL_OP_KV_WRITE, {x, plane, pos, seq, table, from}).attr.kv_write.ratio = 1;
  const int32_t a = rig.i32({1}, {0, -1}, HADAL_DIM_S), b = rig.i32({1}, {1, 2}, HADAL_DIM_S);
  rig.op(HADAL_OP_COPY_BLOCKS, {plane, a, b});
  ASSERT_EQ(rig.run(true), HADAL_OK) << rig.error.text;
  const std::vector<float> wanted = {2, 2, 2, 3, 3, 3, 2, 2, 2, 3, 3, 3,
                                     0, 0, 0, 1, 1, 1, 0, 0, 0, 4, 4, 4};
  EXPECT_EQ(std::vector<float>(rig.at<float>(plane), rig.at<float>(plane) + 24), wanted);
}

/// index_blocks, index_topk among its blocks, and index_topk of everything: with fewer entries than
/// blocks the two lists are one, if a score has its bits whoever makes it. Keys lie so close
/// together that the last bits decide.
std::vector<int32_t> build_index(Rig& rig, int64_t rows, int64_t dim, int64_t block_size) {
  const int64_t slots = 16, context = 3000, pages = (context + slots - 1) / slots, k = 40,
                heads = 8;
  const uint32_t size = static_cast<uint32_t>(block_size);
  Random random(7);
  rig.limits[HADAL_DIM_T] = rig.rows[HADAL_DIM_T] = rows;
  std::vector<float> keys, common = random.numbers(dim);
  for (int64_t e = 0; e < pages * slots; ++e)
    for (const float c : common) keys.push_back(c + random.number() * 0x1p-22f);
  std::vector<int32_t> positions, table;
  for (int64_t t = 0; t < rows; ++t) positions.push_back(static_cast<int32_t>(context - 1 - t * 7));
  for (int64_t i = 0; i < pages; ++i) table.push_back(static_cast<int32_t>(pages - 1 - i));
  const int32_t q = rig.f32({1, heads, dim}, random.numbers(rows * heads * dim), HADAL_DIM_T),
                w = rig.f32({1, heads}, random.numbers(rows * heads), HADAL_DIM_T);
  const int32_t pos = rig.i32({1}, positions, HADAL_DIM_T),
                seq = rig.i32({1}, std::vector<int32_t>(static_cast<size_t>(rows)), HADAL_DIM_T),
                blocks = rig.i32({1, pages}, table), first = rig.i32({1}, {37});
  const int32_t plane = rig.plane(HADAL_F32, {pages, slots, dim});
  std::memcpy(rig.at<float>(plane), keys.data(), keys.size() * sizeof(float));
  const auto list = [&](int64_t width) {
    return rig.i32({1, width}, {}, HADAL_DIM_T, HADAL_SPACE_SCRATCH);
  };
  const int32_t candidates = list(k + 1), some = list(k), all = list(k);
  rig.op(HADAL_OP_INDEX_BLOCKS, {q, w, pos, seq, plane, blocks, first, candidates}).attr.index = {
      1, size};
  rig.op(HADAL_OP_INDEX_TOPK, {q, w, pos, seq, plane, blocks, first, some, candidates})
      .attr.index = {1, size};
  rig.op(HADAL_OP_INDEX_TOPK, {q, w, pos, seq, plane, blocks, first, all}).attr.index = {1, 0};
  return {candidates, some, all};
}

TEST(CpuOps, CandidatesHoldTheEntriesThatAreChosenOfAll) {
  for (const std::string& kernels : kernel_names())
    for (const int64_t dim : {33, 64})
      for (const int64_t size : {8, 11})
        for (const int64_t rows : {2, 9}) {
          std::vector<std::vector<int32_t>> first;
          for (const int threads : {1, 2, 3})
            for (const bool program : {false, true}) {
              Rig rig(threads, kernels.c_str());
              const auto ids = build_index(rig, rows, dim, size);
              ASSERT_EQ(rig.run(program), HADAL_OK) << rig.error.text;
              EXPECT_EQ(rig.get<int32_t>(ids[1]), rig.get<int32_t>(ids[2]))
                  << kernels << " dim " << dim << " blocks of " << size << " rows " << rows;
              std::vector<std::vector<int32_t>> got;
              for (const int32_t id : ids) got.push_back(rig.get<int32_t>(id));
              if (first.empty()) first = got;
              ASSERT_EQ(got, first) << kernels << " threads " << threads;
            }
        }
}

TEST(CpuOps, HyperConnectionsInOneStepAndInTwo) {
  const int64_t t = 5, n = 4, d = 67;
  Rig rig(2);
  rig.limits[HADAL_DIM_T] = rig.rows[HADAL_DIM_T] = t;
  const int32_t x = rig.f32({1, n, d}, Random(1).numbers(t * n * d), HADAL_DIM_T),
                mix = rig.f32({1, n}, Random(2).numbers(t * n), HADAL_DIM_T),
                base = rig.vector(Random(3).numbers(n)), scale = rig.vector({0.7f});
  const int32_t whole = rig.f32({1, d}, {}, HADAL_DIM_T), out = rig.f32({1, d}, {}, HADAL_DIM_T),
                again = rig.f32({1, d}, {}, HADAL_DIM_T), pre = rig.f32({1, n}, {}, HADAL_DIM_T);
  const hadal_hc_attr attr = {1e-6f, 1e-3f, 3};
  rig.op(HADAL_OP_HC_PRE, {x, mix, base, scale, whole}).attr.hc = attr;
  rig.op(HADAL_OP_HC_PRE, {x, mix, base, scale, -1, -1, -1, pre}).attr.hc = attr;
  rig.op(HADAL_OP_HC_PRE, {x, -1, -1, -1, out, -1, -1, pre}).attr.hc = attr;
  rig.op(HADAL_OP_HC_PRE, {x, mix, base, scale, again, -1, -1, pre}).attr.hc = attr;
  for (const bool program : {false, true}) {
    ASSERT_EQ(rig.run(program), HADAL_OK) << rig.error.text;
    EXPECT_EQ(rig.get<float>(out), rig.get<float>(whole));
    EXPECT_EQ(rig.get<float>(again), rig.get<float>(whole));
  }
}

TEST(CpuOps, CandidatesOfTheTapeItselfAreChecked) {
  Rig rig(2);
  const auto ids = build_index(rig, 2, 8, 8);
  rig.ops.erase(rig.ops.begin());
  rig.at<int32_t>(ids[0])[1] = 1 << 20;
  for (const bool program : {false, true}) {
    EXPECT_EQ(rig.run(program), HADAL_INVALID);
    EXPECT_NE(std::string(rig.error.text).find("candidates [1] is 1048576"), std::string::npos)
        << rig.error.text;
  }
}

std::vector<int32_t> build_sample(Rig& rig, uint32_t seed, bool mask, uint32_t top) {
  const int64_t rows = 12, vocab = 5003;
  Random random(seed);
  auto logits = random.numbers(rows * vocab, 6.0f);
  for (int64_t i = 0; i < vocab; ++i)
    logits[static_cast<size_t>(3 * vocab + i)] =
        std::floor(logits[static_cast<size_t>(i)]);  // ties
  logits[static_cast<size_t>(4 * vocab + 17)] = NAN;
  for (int64_t i = 0; i < vocab; ++i)
    logits[static_cast<size_t>(5 * vocab + i)] = i % 2 ? NAN : -INFINITY;
  std::vector<float> params;
  for (int64_t r = 0; r < rows; ++r) {
    const float pick[4] = {0.0f, 0.7f, 1.0f, 1.7f};
    const std::vector<float> p = {pick[r % 4],
                                  static_cast<float>(r % 3 == 0   ? 0
                                                     : r % 3 == 1 ? 40
                                                                  : 1 + r / 6),
                                  r % 5 < 2 ? 1.0f : 0.9f,
                                  r % 2 ? 0.0f : 0.05f,
                                  r % 2 ? 1.3f : 1.0f,
                                  0.5f,
                                  0.25f,
                                  0.0f};
    params.insert(params.end(), p.begin(), p.end());
  }
  std::vector<int32_t> starts, entries;
  std::vector<float> bias;
  for (int32_t r = 0; r < rows; ++r) {
    starts.push_back(static_cast<int32_t>(bias.size()));
    for (int32_t e = 0; e < r % 4 * 20; ++e) {
      entries.insert(entries.end(), {static_cast<int32_t>(random.bits() % vocab), e % 3, e % 2});
      bias.push_back(e % 5 == 0 ? 2.0f : 0.0f);
    }
    starts.push_back(static_cast<int32_t>(bias.size()));
  }
  std::vector<uint32_t> seeds, bits;
  std::vector<int32_t> positions;
  for (int64_t r = 0; r < rows; ++r) {
    seeds.insert(seeds.end(), {random.bits(), random.bits()});
    positions.push_back(static_cast<int32_t>(100 + r));
    for (int64_t w = 0; w < (vocab + 31) / 32; ++w) bits.push_back(random.bits() | random.bits());
  }
  const auto count = static_cast<int64_t>(bias.size());
  rig.limits[HADAL_DIM_R] = rig.rows[HADAL_DIM_R] = rows;
  const int32_t l = rig.f32({1, vocab}, logits, HADAL_DIM_R),
                p = rig.f32({1, HADAL_PARAM_COUNT}, params, HADAL_DIM_R, HADAL_SPACE_INPUT);
  const int32_t s = rig.tensor(HADAL_SPACE_INPUT, HADAL_U32, {1, 2}, seeds, HADAL_DIM_R),
                pos = rig.i32({1}, positions, HADAL_DIM_R);
  const int32_t start = rig.i32({1, 2}, starts, HADAL_DIM_R), entry = rig.i32({count, 3}, entries),
                b = rig.f32({count}, bias, HADAL_DIM_CONST, HADAL_SPACE_INPUT);
  const int32_t m =
      mask ? rig.tensor(HADAL_SPACE_INPUT, HADAL_U32, {1, (vocab + 31) / 32}, bits, HADAL_DIM_R)
           : -1;
  const int32_t token = rig.tensor<int32_t>(HADAL_SPACE_OUTPUT, HADAL_I32, {1}, {}, HADAL_DIM_R),
                logprob = rig.f32({1}, {}, HADAL_DIM_R, HADAL_SPACE_OUTPUT);
  const int32_t tt = rig.tensor<int32_t>(HADAL_SPACE_OUTPUT, HADAL_I32, {1, top}, {}, HADAL_DIM_R),
                tl = rig.f32({1, top}, {}, HADAL_DIM_R, HADAL_SPACE_OUTPUT);
  rig.op(HADAL_OP_SAMPLE, {l, p, s, pos, start, entry, b, m, token, logprob, tt, tl})
      .attr.sample.top = top;
  return {token, logprob, tt, tl};
}

TEST(CpuOps, SampleChoosesWhatRefChooses) {
  for (const std::string& kernels : kernel_names())
    for (const bool mask : {false, true})
      for (const uint32_t seed : {1u, 2u, 3u, 4u}) {
        const uint32_t top = seed == 1 ? 0 : seed == 2 ? 5 : 200;
        Rig ref(1, nullptr, hadal_ref_chip_query), cpu(2, kernels.c_str());
        const auto a = build_sample(ref, seed, mask, top), b = build_sample(cpu, seed, mask, top);
        ASSERT_EQ(ref.run(false), HADAL_OK) << ref.error.text;
        ASSERT_EQ(cpu.run(true), HADAL_OK) << cpu.error.text;
        EXPECT_EQ(cpu.get<int32_t>(b[0]), ref.get<int32_t>(a[0])) << kernels;
        EXPECT_EQ(cpu.get<int32_t>(b[2]), ref.get<int32_t>(a[2])) << kernels;
        for (const size_t i : {size_t{1}, size_t{3}}) {
          const auto x = cpu.get<float>(b[i]), y = ref.get<float>(a[i]);
          for (size_t j = 0; j < x.size(); ++j)
            if (x[j] != y[j]) {
              ASSERT_NEAR(static_cast<double>(x[j]), static_cast<double>(y[j]),
                          2e-6 * std::fabs(static_cast<double>(y[j])))
                  << i << " " << j;
            }
        }
      }
}

TEST(CpuOps, RefusesInWords) {
  Rig rig(1);
  const int32_t x = rig.f32({2, 5}, {}), out = rig.f32({2, 4}, {});
  const int32_t ids = rig.i32({2}, {0, 9}), picked = rig.f32({2, 5});
  rig.op(HADAL_OP_GATHER_ROWS, {x, ids, picked});
  for (const bool program : {false, true}) {
    EXPECT_EQ(rig.run(program), HADAL_INVALID);
    EXPECT_NE(std::string(rig.error.text).find("index"), std::string::npos) << rig.error.text;
  }
  // Indices that the tape makes itself are checked at their stage.
  rig.tensors[static_cast<size_t>(ids)].space = HADAL_SPACE_SCRATCH;
  rig.tensors[static_cast<size_t>(ids)].offset = rig.tensors[static_cast<size_t>(x)].offset;
  rig.at<int32_t>(x)[1] = -5;
  for (const bool program : {false, true}) EXPECT_EQ(rig.run(program), HADAL_INVALID);
  rig.ops.clear();
  rig.op(HADAL_OP_ADD, {x, out});
  EXPECT_NE(rig.run(true), HADAL_OK);
  EXPECT_NE(std::string(rig.error.text).find("add"), std::string::npos) << rig.error.text;
  EXPECT_EQ(rig.weight(HADAL_BOOL, {1, 4}, std::vector<std::byte>(4), HADAL_USE_MATMUL), -1);
  EXPECT_EQ(rig.status, HADAL_UNSUPPORTED);
  EXPECT_FALSE(Rig(1, "no such kernels").opened);
}

TEST(CpuOps, StopsAtABorder) {
  for (const int threads : {1, 2, 3}) {
    Rig rig(threads);
    const int32_t x = rig.f32({4, 100}, Random(1).numbers(400)),
                  y = rig.f32({4, 100}, Random(2).numbers(400));
    for (int i = 0; i < 50; ++i) rig.op(HADAL_OP_ADD, {i % 2 ? x : y, i % 2 ? y : x});
    const volatile int32_t stop = 1;
    rig.stop = &stop;
    EXPECT_EQ(rig.run(true), HADAL_STOPPED);
    rig.stop = nullptr;
    EXPECT_EQ(rig.run(true), HADAL_OK);
  }
}

TEST(CpuOps, ZeroRowsAreLegal) {
  Rig rig(2);
  rig.limits[HADAL_DIM_T] = 8;
  rig.rows[HADAL_DIM_T] = 0;
  const auto w = random_weights(HADAL_Q4_K, 32, 256, 1);
  const int32_t x = rig.f32({1, 256}, {}, HADAL_DIM_T), y = rig.f32({1, 32}, {}, HADAL_DIM_T);
  rig.op(HADAL_OP_NORM, {x, -1, -1, -1, x}).attr.norm = {1e-5f, 0};
  rig.op(HADAL_OP_MATMUL, {x, rig.weight(HADAL_Q4_K, {32, 256}, w, HADAL_USE_MATMUL), -1, -1, y});
  for (const bool program : {false, true}) EXPECT_EQ(rig.run(program), HADAL_OK) << rig.error.text;
}

/// A chain as in a layer: three matmuls of one input, then an input overwritten in place; many
/// times, so that a missing barrier shows.
TEST(CpuOps, ProgramsKeepTheOrderOfDependentOperators) {
  const auto w = random_weights(HADAL_Q8_0, 64, 64, 1);
  std::vector<float> first;
  for (const int64_t rows : {3, 40})
    for (const int threads : {1, 2, 4}) {
      Rig rig(threads);
      const int32_t x = rig.f32({rows, 64}, Random(1).numbers(rows * 64)), a = rig.f32({rows, 64}),
                    b = rig.f32({rows, 64});
      const int32_t handle = rig.weight(HADAL_Q8_0, {64, 64}, w, HADAL_USE_MATMUL);
      rig.limits[HADAL_DIM_T] = rig.rows[HADAL_DIM_T] = rows;
      for (int i = 0; i < 30; ++i) {
        rig.op(HADAL_OP_MATMUL, {x, handle, -1, -1, a});
        rig.op(HADAL_OP_MATMUL, {x, handle, -1, x, b});
        rig.op(HADAL_OP_ADD, {x, a});
        rig.op(HADAL_OP_ADD, {x, b});
        rig.op(HADAL_OP_NORM, {x, -1, -1, -1, x}).attr.norm = {1e-5f, 0};
      }
      ASSERT_EQ(rig.run(threads != 1), HADAL_OK) << rig.error.text;
      const auto y = rig.get<float>(x);
      if (threads == 1) first = y;
      EXPECT_EQ(y, first) << threads;
    }
}

}  // namespace
}  // namespace hadal::cpu::testing
