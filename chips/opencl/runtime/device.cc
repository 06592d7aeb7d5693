#include "runtime/device.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "contract/operators.h"
#include "contract/report.h"
#include "runtime/sources.h"
#include "runtime/sub_groups.h"

namespace hadal::opencl {
namespace {

std::string text_of(const Functions& cl, cl_device_id id, cl_device_info what) {
  size_t bytes = 0;
  if (cl.clGetDeviceInfo(id, what, 0, nullptr, &bytes) != CL_SUCCESS) return {};
  std::string text(bytes, '\0');
  if (cl.clGetDeviceInfo(id, what, bytes, text.data(), nullptr) != CL_SUCCESS) return {};
  text.resize(text.find('\0') == std::string::npos ? bytes : text.find('\0'));
  return text;
}

template <typename T>
T number_of(const Functions& cl, cl_device_id id, cl_device_info what) {
  T value{};
  cl.clGetDeviceInfo(id, what, sizeof value, &value, nullptr);
  return value;
}

/// The operator and operand of a fault: the kernel names its own, the launch may know better.
std::pair<uint32_t, uint32_t> told(uint32_t launched, uint32_t found) {
  const uint32_t op = found >> 8, operand = found & 255;
  if (launched == HADAL_OP_MOE_EXPERTS && op == HADAL_OP_MOE_SORT)
    return {launched, operand == HADAL_MOE_SORT_EXPERT ? uint32_t{HADAL_MOE_EXPERTS_EXPERT}
                                                       : uint32_t{HADAL_MOE_EXPERTS_WEIGHT}};
  return {launched != 0 ? launched : op, operand};
}

}  // namespace

std::string LaunchCounts::text() const {
  if (steps_ == 0) return {};
  uint64_t all = 0;
  for (const auto& [kernel, count] : counts_) all += count;
  const auto a_step = [&](uint64_t count) {
    std::array<char, 32> number{};
    std::snprintf(number.data(), number.size(), "%.1f",
                  static_cast<double>(count) / static_cast<double>(steps_));
    return std::string(number.data());
  };
  std::string text = std::to_string(steps_) + " steps, " + a_step(all) + " launches a step";
  for (const auto& [kernel, count] : counts_)
    text += (&count == &counts_.begin()->second ? ": " : ", ") + std::string(kernel) + " " +
            a_step(count);
  return text;
}

hadal_status status_of(cl_int status) {
  return status == CL_MEM_OBJECT_ALLOCATION_FAILURE || status == CL_OUT_OF_HOST_MEMORY
             ? HADAL_OUT_OF_MEMORY
             : HADAL_DEVICE_FAILED;
}

std::string failure(const char* what, cl_int status) {
  return std::string(what) + " failed with OpenCL status " + code(status);
}

std::vector<cl_device_id> find_devices(const Functions& cl) {
  cl_uint count = 0;
  if (cl.clGetPlatformIDs(0, nullptr, &count) != CL_SUCCESS) return {};
  std::vector<cl_platform_id> platforms(count);
  if (count == 0 || cl.clGetPlatformIDs(count, platforms.data(), nullptr) != CL_SUCCESS) return {};
  std::vector<cl_device_id> all;
  for (const cl_platform_id platform : platforms) {
    cl_uint devices = 0;
    if (cl.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 0, nullptr, &devices) != CL_SUCCESS)
      continue;
    std::vector<cl_device_id> ids(devices);
    if (cl.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, devices, ids.data(), nullptr) != CL_SUCCESS)
      continue;
    for (const cl_device_id id : ids)
      if (number_of<cl_bool>(cl, id, CL_DEVICE_AVAILABLE) &&
          number_of<cl_bool>(cl, id, CL_DEVICE_COMPILER_AVAILABLE))
        all.push_back(id);
  }
  return all;
}

std::unique_ptr<Device> Device::open(const Functions& cl, cl_device_id id, const Options& options,
                                     std::string* why) {
  std::unique_ptr<Device> device(new Device(cl));
  cl_int status = CL_SUCCESS;
  device->id = id;
  device->context = cl.clCreateContext(nullptr, 1, &id, nullptr, nullptr, &status);
  if (status == CL_SUCCESS)
    device->uploads = cl.clCreateCommandQueue(device->context, id, 0, &status);
  if (status != CL_SUCCESS) {
    *why = failure("opening the device", status);
    return nullptr;
  }
  device->name = text_of(cl, id, CL_DEVICE_NAME);
  device->version =
      text_of(cl, id, CL_DEVICE_VERSION) + ", driver " + text_of(cl, id, CL_DRIVER_VERSION);
  device->memory_total = number_of<cl_ulong>(cl, id, CL_DEVICE_GLOBAL_MEM_SIZE);
  device->largest_allocation = number_of<cl_ulong>(cl, id, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
  const auto at_most = [](uint64_t value, int64_t asked, uint64_t unit) {
    return asked > 0 ? std::min(value, static_cast<uint64_t>(asked) * unit) : value;
  };
  device->largest_allocation = at_most(device->largest_allocation, options.largest_mib, 1u << 20);
  device->part_bytes = at_most(device->largest_allocation, options.split_kib, 1u << 10);
  device->local_memory = number_of<cl_ulong>(cl, id, CL_DEVICE_LOCAL_MEM_SIZE);
  device->units = static_cast<int32_t>(number_of<cl_uint>(cl, id, CL_DEVICE_MAX_COMPUTE_UNITS));
  if (number_of<size_t>(cl, id, CL_DEVICE_MAX_WORK_GROUP_SIZE) < kGroup ||
      device->local_memory < (32u << 10)) {
    *why = device->name + " has work-groups of fewer than " + std::to_string(kGroup) +
           " items or less than 32 KiB of local memory";
    return nullptr;
  }
  if (options.sub_groups)
    if (const std::string found = find_sub_groups(*device, text_of(cl, id, CL_DEVICE_EXTENSIONS),
                                                  text_of(cl, id, CL_DEVICE_OPENCL_C_VERSION));
        !found.empty())
      device->build_options = found;
  return device;
}

Device::~Device() {
  for (const auto& [name_of, kernel_of] : kernels_) cl.clReleaseKernel(kernel_of);
  for (const auto& [file, program_of] : programs_) cl.clReleaseProgram(program_of);
  if (uploads) cl.clReleaseCommandQueue(uploads);
  if (context) cl.clReleaseContext(context);
}

cl_int Device::take_workspace(uint64_t bytes) {
  if (bytes > workspace_bytes_) {
    if (bytes > largest_allocation || bytes > memory_free())
      return CL_MEM_OBJECT_ALLOCATION_FAILURE;
    cl_int status = CL_SUCCESS;
    cl_mem made = cl.clCreateBuffer(context, CL_MEM_READ_WRITE, bytes, nullptr, &status);
    if (status != CL_SUCCESS) return status;
    // OpenCL keeps the old one until the work that was queued before is done.
    if (workspace_) cl.clReleaseMemObject(workspace_);
    allocated += bytes - workspace_bytes_;
    workspace_ = made;
    workspace_bytes_ = bytes;
  }
  ++workspace_takers_;
  return CL_SUCCESS;
}

void Device::let_go_of_workspace() {
  if (--workspace_takers_ > 0 || !workspace_) return;
  cl.clReleaseMemObject(workspace_);
  allocated -= workspace_bytes_;
  workspace_ = nullptr;
  workspace_bytes_ = 0;
}

cl_mem Device::workspace_for(Queue& queue) {
  if (workspace_user_ && workspace_user_ != &queue) cl.clFinish(workspace_user_->queue);
  workspace_user_ = &queue;
  return workspace_;
}

cl_program Device::program(const std::string& file, const std::string& variant, std::string* why) {
  const std::string key = file + variant;
  if (const auto at = programs_.find(key); at != programs_.end()) return at->second;
  const std::string text = program_source(file);
  const char* source = text.c_str();
  cl_int status = CL_SUCCESS;
  cl_program made = cl.clCreateProgramWithSource(context, 1, &source, nullptr, &status);
  if (status == CL_SUCCESS)
    status = cl.clBuildProgram(
        made, 1, &id,
        ((variant.find("-cl-std=") == std::string::npos ? build_options + " " : "") + variant)
            .c_str(),
        nullptr, nullptr);
  if (status == CL_SUCCESS) return programs_[key] = made;
  std::array<char, 4096> log{};
  if (made)
    cl.clGetProgramBuildInfo(made, id, CL_PROGRAM_BUILD_LOG, log.size() - 1, log.data(), nullptr);
  *why = failure(("compiling " + file + ".cl for " + name).c_str(), status) + ": " + log.data();
  std::replace(why->begin(), why->end(), '\n', ' ');
  if (made) cl.clReleaseProgram(made);
  return nullptr;
}

cl_kernel Device::kernel(const std::string& file, const std::string& kernel_name,
                         const std::string& variant, std::string* why) {
  const std::string key = kernel_name + variant;
  if (const auto at = kernels_.find(key); at != kernels_.end()) return at->second;
  cl_kernel made = make_kernel(file, kernel_name, variant, why);
  return made ? kernels_[key] = made : nullptr;
}

cl_kernel Device::make_kernel(const std::string& file, const std::string& kernel_name,
                              const std::string& variant, std::string* why) {
  cl_program from = program(file, variant, why);
  if (!from) return nullptr;
  cl_int status = CL_SUCCESS;
  cl_kernel made = cl.clCreateKernel(from, kernel_name.c_str(), &status);
  if (status == CL_SUCCESS) return made;
  *why = failure(("the kernel " + kernel_name).c_str(), status);
  return nullptr;
}

std::unique_ptr<Queue> Queue::create(Device& device, std::string* why) {
  std::unique_ptr<Queue> made(new Queue(device));
  const Functions& cl = device.cl;
  cl_int status = CL_SUCCESS;
  made->queue = cl.clCreateCommandQueue(device.context, device.id, 0, &status);
  if (status == CL_SUCCESS)
    made->fault = cl.clCreateBuffer(device.context, CL_MEM_READ_WRITE, 64, nullptr, &status);
  if (status != CL_SUCCESS) {
    *why = failure("creating a queue", status);
    return nullptr;
  }
  made->clear_fault();
  return made;
}

Queue::~Queue() {
  if (queue) device.cl.clFinish(queue);
  device.forget(*this);
  if (fault) device.cl.clReleaseMemObject(fault);
  if (queue) device.cl.clReleaseCommandQueue(queue);
}

void Queue::clear_fault() {
  const std::array<cl_int, 16> zeros{};
  device.cl.clEnqueueWriteBuffer(queue, fault, CL_TRUE, 0, 64, zeros.data(), 0, nullptr, nullptr);
  launches_.clear();
}

void Queue::fail(hadal_status status, const std::string& text) {
  if (status_ != HADAL_OK) return;
  status_ = status;
  text_ = text;
}

bool Queue::settle() {
  if (status_ != HADAL_OK) return false;
  if (launches_.empty()) return true;
  std::array<cl_int, 16> found{};
  const cl_int status = device.cl.clEnqueueReadBuffer(queue, fault, CL_TRUE, 0, 64, found.data(), 0,
                                                      nullptr, nullptr);
  if (status != CL_SUCCESS) {
    fail(status_of(status), failure("waiting for the device", status));
  } else if (found[0] > 0 && static_cast<size_t>(found[0]) <= launches_.size()) {
    const auto [op, operand] =
        told(launches_[static_cast<size_t>(found[0]) - 1], static_cast<uint32_t>(found[1]));
    fail(HADAL_INVALID, std::string(contract::op_name(op)) + ": " +
                            contract::operand_name(op, operand) + "[" + std::to_string(found[2]) +
                            "] = " + std::to_string(found[3]) + " is outside [0, " +
                            std::to_string(found[4]) + ")");
  } else {
    launches_.clear();
  }
  return status_ == HADAL_OK;
}

hadal_status Queue::sync(hadal_error* error) {
  const bool sound = settle();
  const cl_int status = device.cl.clFinish(queue);
  if (sound && status != CL_SUCCESS)
    fail(status_of(status), failure("waiting for the device", status));
  if (status_ == HADAL_OK) return HADAL_OK;
  const hadal_status told = contract::report(error, status_, text_);
  status_ = HADAL_OK;
  clear_fault();
  return told;
}

}  // namespace hadal::opencl
