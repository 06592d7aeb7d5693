// The machine's own peaks, measured with all threads: what benchmarks are compared with.
#include <algorithm>
#include <chrono>

#include "contract/report.h"
#include "runtime/device.h"

namespace hadal::cpu {
namespace {

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Best rate of `unit` (work done by all workers together) over some repeats, at most about 0.25 s.
template <typename Work>
double best_rate(ThreadPool& pool, Work work) {
  double best = 0.0;
  const double end = seconds() + 0.25;
  for (int i = 0; i < 3 || (seconds() < end && i < 1000); ++i) {
    std::vector<double> done(static_cast<size_t>(pool.size()));
    auto body = [&](int worker) { done[static_cast<size_t>(worker)] = work(worker); };
    const double from = seconds();
    pool.run(body);
    const double took = seconds() - from;
    double sum = 0.0;
    for (const double d : done) sum += d;
    best = std::max(best, sum / took);
  }
  return best;
}

}  // namespace

hadal_status measure(Device& device, double* read_bytes_per_second, double* int8_ops_per_second,
                     double* fp32_flops_per_second, hadal_error* error) {
  constexpr int64_t kBytes = int64_t{256} << 20;  // well beyond the caches
  const std::lock_guard guard(device.pool->lock());
  Mapping memory;
  if (!memory.allocate(static_cast<uint64_t>(kBytes)))
    return contract::report(error, HADAL_OUT_OF_MEMORY, "no memory left for the probe");
  const int64_t part = kBytes / device.pool->size() / 4096 * 4096;
  auto touch = [&](int worker) {
    for (int64_t i = 0; i < part; i += 4096) memory.data()[worker * part + i] = 1;
  };
  device.pool->run(touch);
  std::atomic<uint64_t> sink{0};
  *read_bytes_per_second = best_rate(*device.pool, [&](int worker) {
    sink.fetch_add(device.kernels.read(memory.data() + worker * part, part),
                   std::memory_order_relaxed);
    return static_cast<double>(part);
  });
  *int8_ops_per_second = best_rate(
      *device.pool, [&](int) { return static_cast<double>(device.kernels.int8_peak(200000)); });
  *fp32_flops_per_second = best_rate(
      *device.pool, [&](int) { return static_cast<double>(device.kernels.fp32_peak(200000)); });
  return HADAL_OK;
}

}  // namespace hadal::cpu
