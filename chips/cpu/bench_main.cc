// bench_cpu: matmul of the cpu chip, one row and 512 rows, against this machine's own measured
// peaks. JSON lines.
//
//   bench_cpu [threads] [type,type,…] [rows,rows,…] [kernels] [megabytes of weights]
//   bench_cpu [threads] smollm2|qwen1.5b [rows,rows,…] [kernels] [context]     a whole step, random
//   weights
//
// For few rows as many different weights are multiplied as exceed the caches, so that the figure is
// one of memory; the read bandwidth is probed beside every line, since on shared machines it
// changes within a minute.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <deque>

#include "test_rig.h"

namespace {

using namespace hadal;
using namespace hadal::cpu::testing;

/// Wall clock; with one thread that thread's own time, which other processes disturb less.
double now(int threads) {
  if (threads != 1)
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

struct Shape {
  int64_t n, k;
};
constexpr Shape kShapes[] = {{640, 1536},  {1536, 1536}, {8960, 1536},
                             {1536, 8960}, {576, 576},   {1536, 576}};

/// The seconds of `runs` runs of what the rig holds, ascending; none if it failed, which is
/// printed.
std::vector<double> times_of(Rig& rig, int runs, int threads) {
  const hadal_tape tape = rig.tape();
  const hadal_step step = rig.step();
  hadal_program* program = nullptr;
  bool ok = rig.chip.program->prepare(rig.device, &tape, &program, &rig.error) == HADAL_OK;
  std::vector<double> times;
  for (int i = 0; ok && i < runs; ++i) {
    const double begin = now(threads);
    ok = rig.chip.program->run(program, rig.queue, &step, &rig.error) == HADAL_OK;
    times.push_back(now(threads) - begin);
  }
  if (program) rig.chip.program->destroy(program);
  if (!ok) {
    std::printf("%s\n", rig.error.text);
    return {};
  }
  std::sort(times.begin(), times.end());
  return times;
}

void bench(hadal_dtype dtype, Shape s, int64_t rows, int threads, const char* kernels,
           int64_t megabytes) {
  if (s.k % dtype_info(dtype)->block_values != 0) return;
  Rig rig(threads, kernels);
  if (!rig.opened) {
    std::printf("%s\n", rig.error.text);
    return;
  }
  const auto data = random_weights(dtype, s.n, s.k, 1);
  const int64_t copies =
      rows > 64 ? 1 : std::max<int64_t>(1, (megabytes << 20) / static_cast<int64_t>(data.size()));
  // Read where they lie.
  const std::vector<std::vector<std::byte>> all(static_cast<size_t>(copies), data);
  rig.limits[HADAL_DIM_T] = rig.rows[HADAL_DIM_T] = rows;
  const int32_t x = rig.f32({1, s.k}, Random(2).numbers(rows * s.k), HADAL_DIM_T),
                y = rig.f32({1, s.n}, {}, HADAL_DIM_T);
  for (int64_t i = 0; i < copies; ++i)
    rig.op(HADAL_OP_MATMUL,
           {x, rig.weight(dtype, {s.n, s.k}, all[static_cast<size_t>(i)], HADAL_USE_MATMUL), -1, -1,
            y});
  const std::vector<double> times = times_of(rig, 9, threads);
  if (times.empty()) return;
  double bandwidth = 0, int8 = 0, fp32 = 0;
  rig.chip.profile->measure(rig.device, &bandwidth, &int8, &fp32, &rig.error);
  const auto each = static_cast<double>(copies);
  const double t = times[times.size() / 2] / each, bytes = static_cast<double>(data.size());
  const double operations = 2.0 * static_cast<double>(rows * s.n * s.k);
  std::printf(
      "{\"type\":\"%s\",\"n\":%ld,\"k\":%ld,\"rows\":%ld,\"us\":%.1f,\"fastest_us\":%.1f,\"GBps\":%"
      ".2f,\"of_read\":%.2f,\"GOPS\":%.1f,"
      "\"of_int8\":%.2f,\"of_fp32\":%.2f,\"read_GBps\":%.1f,\"int8_GOPS\":%.0f,\"fp32_GFLOPS\":%."
      "0f}\n",
      dtype_name(dtype).data(), static_cast<long>(s.n), static_cast<long>(s.k),
      static_cast<long>(rows), t * 1e6, times[0] / each * 1e6, bytes / t * 1e-9,
      bytes / t / bandwidth, operations / t * 1e-9, operations / t / int8, operations / t / fp32,
      bandwidth * 1e-9, int8 * 1e-9, fp32 * 1e-9);
  std::fflush(stdout);
}

struct Model {
  const char* name;
  int64_t layers, width, heads, kv_heads, dim, hidden, vocab;
  hadal_dtype type, more, head;  ///< `more`: v, down and the head, as Q4_K_M has it
};
constexpr Model kModels[] = {
    {"smollm2", 30, 576, 9, 3, 64, 1536, 49152, HADAL_Q4_1, HADAL_Q4_1, HADAL_Q4_1},
    {"qwen1.5b", 28, 1536, 12, 2, 128, 8960, 151936, HADAL_Q4_K, HADAL_Q6_K, HADAL_Q6_K}};

/// A step of a dense model: `rows` rows of one sequence at the end of `context` positions.
void bench_model(const Model& m, int64_t rows, int64_t context, int threads, const char* kernels) {
  Rig rig(threads, kernels);
  if (!rig.opened) return;
  context = std::max(context, rows);
  constexpr int64_t kSlots = 64;
  const int64_t blocks = (context + kSlots - 1) / kSlots;
  rig.limits[HADAL_DIM_T] = rig.rows[HADAL_DIM_T] = rows;
  std::deque<std::vector<std::byte>> data;  // read where it lies
  const auto weight = [&](hadal_dtype type, int64_t n, int64_t k) {
    const auto some = random_weights(type, 16, k, static_cast<uint32_t>(data.size()));
    std::vector<std::byte>& all = data.emplace_back();
    const auto bytes = static_cast<size_t>(*row_bytes(type, k) * n);
    while (all.size() < bytes) all.insert(all.end(), some.begin(), some.end());
    all.resize(bytes);
    return rig.weight(type, {n, k}, all, HADAL_USE_MATMUL);
  };
  const auto rows_of = [&](int64_t n) { return rig.f32({1, n}, {}, HADAL_DIM_T); };
  std::vector<int32_t> positions, sequences, table;
  for (int64_t t = 0; t < rows; ++t) positions.push_back(static_cast<int32_t>(context - rows + t));
  for (int64_t b = 0; b < blocks; ++b) table.push_back(static_cast<int32_t>(b));
  const int32_t pos = rig.i32({1}, positions, HADAL_DIM_T),
                seq = rig.i32({1}, std::vector<int32_t>(static_cast<size_t>(rows)), HADAL_DIM_T);
  const int32_t tables = rig.i32({1, blocks}, table, HADAL_DIM_S),
                zero = rig.i32({1}, {0}, HADAL_DIM_S);
  const int32_t freq = rig.vector(Random(3).numbers(m.dim / 2)),
                ones = rig.vector(std::vector<float>(static_cast<size_t>(m.width), 1.0f));
  const int32_t x = rig.f32({1, m.width}, Random(2).numbers(rows * m.width), HADAL_DIM_T),
                h = rows_of(m.width), o = rows_of(m.width);
  const int64_t qw = m.heads * m.dim, kw = m.kv_heads * m.dim;
  const int32_t q = rows_of(qw), k = rows_of(kw), v = rows_of(kw), a = rows_of(qw),
                g = rows_of(m.hidden), u = rows_of(m.hidden);
  const auto heads_of = [&](int32_t tensor, int64_t heads) {
    hadal_tensor t = rig.tensors[static_cast<size_t>(tensor)];
    t.rank = 3;
    t.extents[1] = heads;
    t.extents[2] = m.dim;
    t.strides[1] = m.dim * 4;
    t.strides[2] = 4;
    rig.tensors.push_back(t);
    return static_cast<int32_t>(rig.tensors.size()) - 1;
  };
  const int32_t q3 = heads_of(q, m.heads), k3 = heads_of(k, m.kv_heads), a3 = heads_of(a, m.heads);
  for (int64_t l = 0; l < m.layers; ++l) {
    const int32_t kp = rig.plane(HADAL_F16, {blocks, kSlots, kw}),
                  vp = rig.plane(HADAL_F16, {blocks, kSlots, kw});
    rig.op(HADAL_OP_NORM, {l ? o : x, ones, -1, l ? x : -1, h}).attr.norm = {1e-5f, 0};
    rig.op(HADAL_OP_MATMUL, {h, weight(m.type, qw, m.width), -1, -1, q});
    rig.op(HADAL_OP_MATMUL, {h, weight(m.type, kw, m.width), -1, -1, k});
    rig.op(HADAL_OP_MATMUL, {h, weight(m.more, kw, m.width), -1, -1, v});
    for (const int32_t t : {q3, k3})
      rig.op(HADAL_OP_ROPE, {t, pos, freq}).attr.rope = {0,   static_cast<uint32_t>(m.dim), 0, 0, 1,
                                                         1.0f};
    rig.op(HADAL_OP_KV_WRITE, {k, kp, pos, seq, tables, zero}).attr.kv_write.ratio = 1;
    rig.op(HADAL_OP_KV_WRITE, {v, vp, pos, seq, tables, zero}).attr.kv_write.ratio = 1;
    rig.op(HADAL_OP_GQA_ATTENTION, {q3, kp, vp, pos, seq, tables, zero, -1, a3}).attr.attention = {
        0.1f, static_cast<uint32_t>(m.kv_heads), 0};
    rig.op(HADAL_OP_MATMUL, {a, weight(m.type, m.width, qw), -1, -1, o});
    rig.op(HADAL_OP_NORM, {o, ones, -1, x, h}).attr.norm = {1e-5f, 0};
    rig.op(HADAL_OP_MATMUL, {h, weight(m.type, m.hidden, m.width), -1, -1, g});
    rig.op(HADAL_OP_MATMUL, {h, weight(m.type, m.hidden, m.width), -1, -1, u});
    rig.op(HADAL_OP_SWIGLU, {g, u, -1, g});
    rig.op(HADAL_OP_MATMUL, {g, weight(m.more, m.width, m.hidden), -1, -1, o});
  }
  const int32_t last = rig.i32({1}, {static_cast<int32_t>(rows - 1)}, HADAL_DIM_R),
                one = rig.f32({1, m.width}, {}, HADAL_DIM_R);
  rig.op(HADAL_OP_GATHER_ROWS, {h, last, one});
  rig.op(HADAL_OP_MATMUL,
         {one, weight(m.head, m.vocab, m.width), -1, -1, rig.f32({1, m.vocab}, {}, HADAL_DIM_R)});
  const std::vector<double> times = times_of(rig, rows > 64 ? 5 : 40, threads);
  if (times.empty()) return;
  const double t = times[times.size() / 2];
  std::printf(
      "{\"model\":\"%s\",\"rows\":%ld,\"context\":%ld,\"ms\":%.3f,\"fastest_ms\":%.3f,\"tokens_per_"
      "s\":%.1f}\n",
      m.name, static_cast<long>(rows), static_cast<long>(context), t * 1e3, times[0] * 1e3,
      static_cast<double>(rows) / t);
  std::fflush(stdout);
}

hadal_dtype named(const std::string& name) {
  for (uint32_t code = 1; code < 64; ++code)
    if (dtype_name(static_cast<hadal_dtype>(code)) == name) return static_cast<hadal_dtype>(code);
  std::printf("no type is called %s\n", name.c_str());
  std::exit(2);
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    parts.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return parts;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 0;
  const std::string types = argc > 2 ? argv[2] : "Q4_1,Q4_K,Q6_K,Q8_0,Q4_0,Q5_K,F16,F32";
  const std::string rows = argc > 3 ? argv[3] : "1,512";
  for (const Model& model : kModels)
    if (types == model.name) {
      for (const std::string& m : split(rows))
        bench_model(model, std::atol(m.c_str()), argc > 5 ? std::atol(argv[5]) : 128, threads,
                    argc > 4 && *argv[4] ? argv[4] : nullptr);
      return 0;
    }
  for (const std::string& type : split(types))
    for (const std::string& m : split(rows))
      for (const Shape& s : kShapes)
        bench(named(type), s, std::atol(m.c_str()), threads,
              argc > 4 && *argv[4] ? argv[4] : nullptr, argc > 5 ? std::atol(argv[5]) : 128);
  return 0;
}
