#include "runtime/device.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/dtype.h"
#include "contract/operators.h"
#include "contract/report.h"
#include "runtime/sources.h"
#include "runtime/weights.h"

namespace hadal::opencl {
namespace {

std::string text_of(const Functions& cl, cl_device_id id, cl_device_info what) {
  std::array<char, 256> text{};
  cl.clGetDeviceInfo(id, what, text.size() - 1, text.data(), nullptr);
  return text.data();
}

template <typename T>
T number_of(const Functions& cl, cl_device_id id, cl_device_info what) {
  T value{};
  cl.clGetDeviceInfo(id, what, sizeof value, &value, nullptr);
  return value;
}

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

/// Numbers that kernels name: operands, sampling parameters, the size of a work-group.
std::string definitions() {
  std::string text = "#define GROUP " + std::to_string(kGroup) + "\n";
  for (uint32_t id = 1; id < 64; ++id)
    for (uint32_t i = 0; i < contract::operand_count(id); ++i)
      text += "#define " + upper(contract::op_name(id)) + "_" +
              upper(contract::operand_name(id, i)) + " " + std::to_string(i) + "\n";
  for (const uint32_t dtype : kBlockTypes)
    text += "#define TYPE_" + std::string(dtype_name(static_cast<DType>(dtype))) + " " +
            std::to_string(dtype) + "\n";
  constexpr std::pair<const char*, int> kParameters[] = {{"TEMPERATURE", HADAL_PARAM_TEMPERATURE},
                                                         {"TOP_K", HADAL_PARAM_TOP_K},
                                                         {"TOP_P", HADAL_PARAM_TOP_P},
                                                         {"MIN_P", HADAL_PARAM_MIN_P},
                                                         {"REPETITION", HADAL_PARAM_REPETITION},
                                                         {"PRESENCE", HADAL_PARAM_PRESENCE},
                                                         {"FREQUENCY", HADAL_PARAM_FREQUENCY}};
  for (const auto& [name, number] : kParameters)
    text += std::string("#define PARAM_") + name + " " + std::to_string(number) + "\n";
  return text;
}

const char* source_of(const std::string& file) {
  for (const auto& [name, text] : kSources)
    if (name == file) return text;
  return nullptr;
}

}  // namespace

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

std::unique_ptr<Device> Device::open(const Functions& cl, cl_device_id id, std::string* why) {
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
  device->local_memory = number_of<cl_ulong>(cl, id, CL_DEVICE_LOCAL_MEM_SIZE);
  device->units = static_cast<int32_t>(number_of<cl_uint>(cl, id, CL_DEVICE_MAX_COMPUTE_UNITS));
  if (number_of<size_t>(cl, id, CL_DEVICE_MAX_WORK_GROUP_SIZE) < kGroup ||
      device->local_memory < (32u << 10)) {
    *why = device->name + " has work-groups of fewer than " + std::to_string(kGroup) +
           " items or less than 32 KiB of local memory";
    return nullptr;
  }
  return device;
}

Device::~Device() {
  for (const auto& [name_of, kernel_of] : kernels_) cl.clReleaseKernel(kernel_of);
  for (const auto& [file, program_of] : programs_) cl.clReleaseProgram(program_of);
  if (uploads) cl.clReleaseCommandQueue(uploads);
  if (context) cl.clReleaseContext(context);
}

cl_program Device::program(const std::string& file, const std::string& variant, std::string* why) {
  const std::string key = file + variant;
  if (const auto at = programs_.find(key); at != programs_.end()) return at->second;
  const std::string numbers = definitions();
  const char* parts[] = {numbers.c_str(), source_of("common"), source_of("blocks"),
                         source_of(file)};
  cl_int status = CL_SUCCESS;
  cl_program made = cl.clCreateProgramWithSource(context, 4, parts, nullptr, &status);
  if (status == CL_SUCCESS)
    status =
        cl.clBuildProgram(made, 1, &id, ("-cl-std=CL1.2 " + variant).c_str(), nullptr, nullptr);
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
  cl_program from = program(file, variant, why);
  if (!from) return nullptr;
  cl_int status = CL_SUCCESS;
  cl_kernel made = cl.clCreateKernel(from, kernel_name.c_str(), &status);
  if (status == CL_SUCCESS) return kernels_[key] = made;
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
    fail(HADAL_DEVICE_FAILED, failure("waiting for the device", status));
  } else if (found[0] > 0 && static_cast<size_t>(found[0]) <= launches_.size()) {
    const uint32_t op = launches_[static_cast<size_t>(found[0]) - 1];
    fail(HADAL_INVALID, std::string(contract::op_name(op)) + ": " +
                            contract::operand_name(op, static_cast<uint32_t>(found[1])) + "[" +
                            std::to_string(found[2]) + "] = " + std::to_string(found[3]) +
                            " is outside [0, " + std::to_string(found[4]) + ")");
  } else {
    launches_.clear();
  }
  return status_ == HADAL_OK;
}

hadal_status Queue::sync(hadal_error* error) {
  const bool sound = settle();
  const cl_int status = device.cl.clFinish(queue);
  if (sound && status != CL_SUCCESS)
    fail(HADAL_DEVICE_FAILED, failure("waiting for the device", status));
  if (status_ == HADAL_OK) return HADAL_OK;
  const hadal_status told = contract::report(error, status_, text_);
  status_ = HADAL_OK;
  clear_fault();
  return told;
}

}  // namespace hadal::opencl
