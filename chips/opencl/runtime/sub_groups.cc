#include "runtime/sub_groups.h"

#include <array>
#include <cstring>
#include <optional>

#include "runtime/sources.h"

namespace hadal::opencl {
namespace {

constexpr size_t kGroups = 16;
using Numbers = std::array<float, kGroups * kGroup>;
using Trees = std::array<float, 2 * kGroups * kGroup>;  ///< sum and largest, as each item has them

bool has(const std::string& list, const std::string& extension) {
  return (" " + list + " ").find(" " + extension + " ") != std::string::npos;
}

/// Numbers between -1 and 1 that look random and never change.
Numbers numbers() {
  Numbers x{};
  uint32_t state = 1;
  for (float& v : x) {
    state = state * 1664525u + 1013904223u;
    v = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
  }
  return x;
}

/// Runs group_trees of a build on x; nothing if that fails.
std::optional<Trees> run(Device& device, const std::string& variant, cl_mem x, cl_mem out) {
  const Functions& cl = device.cl;
  std::string why;
  cl_kernel kernel = device.kernel("groups", "group_trees", variant, &why);
  if (!kernel) return std::nullopt;
  const cl_long place = 0;
  const size_t global = kGroups * kGroup, local = kGroup;
  Trees trees{};
  const bool done = cl.clSetKernelArg(kernel, 0, sizeof x, &x) == CL_SUCCESS &&
                    cl.clSetKernelArg(kernel, 1, sizeof place, &place) == CL_SUCCESS &&
                    cl.clSetKernelArg(kernel, 2, sizeof out, &out) == CL_SUCCESS &&
                    cl.clSetKernelArg(kernel, 3, sizeof place, &place) == CL_SUCCESS &&
                    cl.clEnqueueNDRangeKernel(device.uploads, kernel, 1, nullptr, &global, &local,
                                              0, nullptr, nullptr) == CL_SUCCESS &&
                    cl.clEnqueueReadBuffer(device.uploads, out, CL_TRUE, 0, sizeof trees,
                                           trees.data(), 0, nullptr, nullptr) == CL_SUCCESS;
  return done ? std::optional(trees) : std::nullopt;
}

}  // namespace

bool same_trees(Device& device, const std::string& variant) {
  const Functions& cl = device.cl;
  const Numbers x = numbers();
  cl_int status = CL_SUCCESS;
  const auto buffer = [&](size_t bytes) {
    return cl.clCreateBuffer(device.context, CL_MEM_READ_WRITE, bytes, nullptr, &status);
  };
  cl_mem in = buffer(sizeof x), out = buffer(sizeof(Trees));
  bool same = false;
  if (in && out &&
      cl.clEnqueueWriteBuffer(device.uploads, in, CL_TRUE, 0, sizeof x, x.data(), 0, nullptr,
                              nullptr) == CL_SUCCESS) {
    const auto plain = run(device, "", in, out), own = run(device, variant, in, out);
    same = plain && own && std::memcmp(plain->data(), own->data(), sizeof(Trees)) == 0;
  }
  if (in) cl.clReleaseMemObject(in);
  if (out) cl.clReleaseMemObject(out);
  return same;
}

std::string find_sub_groups(Device& device, const std::string& extensions,
                            const std::string& language) {
  std::string variant;
  if (has(extensions, "cl_khr_subgroup_shuffle") && language.rfind("OpenCL C 3", 0) == 0)
    variant = "-cl-std=CL3.0 -DSUB_GROUPS_KHR";
  else if (has(extensions, "cl_intel_subgroups"))
    variant = "-cl-std=CL1.2 -DSUB_GROUPS_INTEL";
  return !variant.empty() && same_trees(device, variant) ? variant : "";
}

}  // namespace hadal::opencl
