// bench_cpu: matmul of the cpu chip, one row and 512 rows, against this machine's own measured peaks. JSON lines.
//
//   bench_cpu [threads] [type,type,…] [rows,rows,…] [kernels] [megabytes of weights]
//
// For few rows as many different weights are multiplied as exceed the caches, so that the figure is one of memory; the
// read bandwidth is probed beside every line, since on shared machines it changes within a minute.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "test_rig.h"

namespace {

using namespace hadal;
using namespace hadal::cpu::testing;

/// Wall clock; with one thread that thread's own time, which other processes disturb less.
double now(int threads) {
  if (threads != 1) return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

struct Shape {
  int64_t n, k;
};
constexpr Shape kShapes[] = {{1536, 1536}, {8960, 1536}, {1536, 8960}, {576, 576}, {1536, 576}};

void bench(hadal_dtype dtype, Shape s, int64_t rows, int threads, const char* kernels, int64_t megabytes) {
  if (s.k % dtype_info(dtype)->block_values != 0) return;
  Rig rig(threads, kernels);
  if (!rig.opened) {
    std::printf("%s\n", rig.error.text);
    return;
  }
  const auto data = random_weights(dtype, s.n, s.k, 1);
  const int64_t copies = rows > 64 ? 1 : std::max<int64_t>(1, (megabytes << 20) / static_cast<int64_t>(data.size()));
  rig.limits[HADAL_DIM_T] = rig.rows[HADAL_DIM_T] = rows;
  const int32_t x = rig.f32({1, s.k}, Random(2).numbers(rows * s.k), HADAL_DIM_T), y = rig.f32({1, s.n}, {}, HADAL_DIM_T);
  const double from = now(threads);
  for (int64_t i = 0; i < copies; ++i) rig.op(HADAL_OP_MATMUL, {x, rig.weight(dtype, {s.n, s.k}, data, HADAL_USE_MATMUL), -1, -1, y});
  const double packing = now(threads) - from;
  const hadal_tape tape = rig.tape();
  const hadal_step step = rig.step();
  hadal_program* program = nullptr;
  if (rig.chip.program->prepare(rig.device, &tape, &program, &rig.error) != HADAL_OK) {
    std::printf("%s\n", rig.error.text);
    return;
  }
  std::vector<double> times;
  for (int i = 0; i < 9; ++i) {
    const double begin = now(threads);
    rig.chip.program->run(program, rig.queue, &step, &rig.error);
    times.push_back((now(threads) - begin) / static_cast<double>(copies));
  }
  rig.chip.program->destroy(program);
  double bandwidth = 0, int8 = 0, fp32 = 0;
  rig.chip.profile->measure(rig.device, &bandwidth, &int8, &fp32, &rig.error);
  std::sort(times.begin(), times.end());
  const double t = times[times.size() / 2], bytes = static_cast<double>(data.size());
  const double operations = 2.0 * static_cast<double>(rows * s.n * s.k);
  std::printf("{\"type\":\"%s\",\"n\":%ld,\"k\":%ld,\"rows\":%ld,\"us\":%.1f,\"fastest_us\":%.1f,\"GBps\":%.2f,\"of_read\":%.2f,\"GOPS\":%.1f,"
              "\"of_int8\":%.2f,\"of_fp32\":%.2f,\"read_GBps\":%.1f,\"int8_GOPS\":%.0f,\"fp32_GFLOPS\":%.0f,\"pack_GBps\":%.2f}\n",
              dtype_name(dtype).data(), static_cast<long>(s.n), static_cast<long>(s.k), static_cast<long>(rows), t * 1e6, times[0] * 1e6,
              bytes / t * 1e-9, bytes / t / bandwidth, operations / t * 1e-9, operations / t / int8, operations / t / fp32, bandwidth * 1e-9,
              int8 * 1e-9, fp32 * 1e-9, bytes * static_cast<double>(copies) / packing * 1e-9);
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
  for (const std::string& type : split(types))
    for (const std::string& m : split(rows))
      for (const Shape& s : kShapes) bench(named(type), s, std::atol(m.c_str()), threads, argc > 4 && *argv[4] ? argv[4] : nullptr, argc > 5 ? std::atol(argv[5]) : 128);
  return 0;
}
