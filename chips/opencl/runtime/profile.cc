#include "runtime/profile.h"

#include <algorithm>
#include <chrono>

#include "contract/report.h"
#include "runtime/sources.h"

namespace hadal::opencl {
namespace {

constexpr uint64_t kBytes = uint64_t{256} << 20;  // well beyond the caches
constexpr uint64_t kBlock = 64 << 10;             // of a work-group
constexpr size_t kItems = kBytes / kBlock * kGroup;
constexpr int kRounds = 512;
constexpr double kFlopsOfARound = 8 * 8 * 2;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Buffers and a queue of one measurement.
class Probe {
 public:
  explicit Probe(Device& device) : device_(device), cl_(device.cl) {
    const uint64_t room = std::min(device.largest_allocation / 2, device.memory_free() / 4);
    bytes_ = std::clamp(room, kBlock, kBytes) / kBlock * kBlock;
    cl_int status = CL_SUCCESS;
    queue_ = cl_.clCreateCommandQueue(device.context, device.id, 0, &status);
    if (status == CL_SUCCESS)
      out_ = cl_.clCreateBuffer(device.context, CL_MEM_READ_WRITE, kItems * 4, nullptr, &status);
    if (status == CL_SUCCESS)
      from_ = cl_.clCreateBuffer(device.context, CL_MEM_READ_WRITE, bytes_, nullptr, &status);
    constexpr cl_float kOne = 1.0f;
    if (status == CL_SUCCESS)
      status = cl_.clEnqueueFillBuffer(queue_, from_, &kOne, sizeof kOne, 0, bytes_, 0, nullptr,
                                       nullptr);
    if (status != CL_SUCCESS) why = failure("a buffer for the measurement", status);
    no_room = status != CL_SUCCESS;
  }
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;
  ~Probe() {
    if (from_) cl_.clReleaseMemObject(from_);
    if (out_) cl_.clReleaseMemObject(out_);
    if (queue_) cl_.clReleaseCommandQueue(queue_);
  }

  double read_bytes_per_second() {
    const auto eights = static_cast<cl_int>(kBlock / 32);
    cl_kernel kernel = device_.kernel("profile", "read_peak", "", &why);
    if (!kernel) return 0;
    set(kernel, 0, sizeof from_, &from_);
    set(kernel, 1, sizeof eights, &eights);
    set(kernel, 2, sizeof out_, &out_);
    return best_rate(kernel, bytes_ / kBlock * kGroup, static_cast<double>(bytes_));
  }

  double fp32_flops_per_second() {
    const cl_int rounds = kRounds;
    const cl_float factor = 0.5f;
    cl_kernel kernel = device_.kernel("profile", "fp32_peak", "", &why);
    if (!kernel) return 0;
    set(kernel, 0, sizeof rounds, &rounds);
    set(kernel, 1, sizeof factor, &factor);
    set(kernel, 2, sizeof out_, &out_);
    return best_rate(kernel, kItems, kFlopsOfARound * kRounds * static_cast<double>(kItems));
  }

  std::string why;  ///< something failed
  bool no_room = false;

 private:
  void set(cl_kernel kernel, cl_uint at, size_t bytes, const void* value) {
    const cl_int status = cl_.clSetKernelArg(kernel, at, bytes, value);
    if (status != CL_SUCCESS) why = failure("an argument", status);
  }

  /// Of `work` a launch; the best of at least three launches, at most about 0.25 s of them.
  double best_rate(cl_kernel kernel, size_t items, double work) {
    double best = 0;
    cl_.clFinish(queue_);
    const double end = seconds() + 0.25;
    for (int i = 0; why.empty() && (i < 3 || (seconds() < end && i < 1000)); ++i) {
      constexpr size_t kLocal = kGroup;
      const double from = seconds();
      cl_int status = cl_.clEnqueueNDRangeKernel(queue_, kernel, 1, nullptr, &items, &kLocal, 0,
                                                 nullptr, nullptr);
      if (status == CL_SUCCESS) status = cl_.clFinish(queue_);
      if (status != CL_SUCCESS) why = failure("a measurement", status);
      best = std::max(best, work / (seconds() - from));
    }
    return best;
  }

  Device& device_;
  const Functions& cl_;
  uint64_t bytes_ = 0;
  cl_command_queue queue_ = nullptr;
  cl_mem from_ = nullptr, out_ = nullptr;
};

// Products are made in fp32 whatever the weights are, so that is the peak of int8 as well.
hadal_status measure(hadal_device* handle, double* read_bytes_per_second,
                     double* int8_ops_per_second, double* fp32_flops_per_second,
                     hadal_error* error) {
  return contract::guarded(error, [&] {
    Probe probe(*device_of(handle));
    if (probe.why.empty()) *read_bytes_per_second = probe.read_bytes_per_second();
    if (probe.why.empty()) *fp32_flops_per_second = probe.fp32_flops_per_second();
    *int8_ops_per_second = *fp32_flops_per_second;
    if (probe.why.empty()) return HADAL_OK;
    return contract::report(error, probe.no_room ? HADAL_OUT_OF_MEMORY : HADAL_DEVICE_FAILED,
                            probe.why);
  });
}

}  // namespace

const hadal_profile_table kProfileTable = {sizeof(hadal_profile_table), 0, measure};

}  // namespace hadal::opencl
