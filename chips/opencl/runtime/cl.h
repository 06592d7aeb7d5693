// The functions of OpenCL 1.2 that this chip calls, found in the system's loader by dlopen: a
// machine without OpenCL has a chip with no devices, not a program that does not start.
#pragma once

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include <string>

namespace hadal::opencl {

#define HADAL_CL_FUNCTIONS(X)     \
  X(clGetPlatformIDs)             \
  X(clGetPlatformInfo)            \
  X(clGetDeviceIDs)               \
  X(clGetDeviceInfo)              \
  X(clCreateContext)              \
  X(clReleaseContext)             \
  X(clCreateCommandQueue)         \
  X(clReleaseCommandQueue)        \
  X(clCreateBuffer)               \
  X(clReleaseMemObject)           \
  X(clCreateProgramWithSource)    \
  X(clBuildProgram)               \
  X(clGetProgramBuildInfo)        \
  X(clReleaseProgram)             \
  X(clCreateKernel)               \
  X(clReleaseKernel)              \
  X(clSetKernelArg)               \
  X(clEnqueueNDRangeKernel)       \
  X(clEnqueueReadBuffer)          \
  X(clEnqueueWriteBuffer)         \
  X(clEnqueueCopyBuffer)          \
  X(clEnqueueFillBuffer)          \
  X(clEnqueueMarkerWithWaitList)  \
  X(clEnqueueBarrierWithWaitList) \
  X(clWaitForEvents)              \
  X(clReleaseEvent)               \
  X(clFlush)                      \
  X(clFinish)

struct Functions {
#define HADAL_CL_MEMBER(NAME) decltype(&::NAME) NAME = nullptr;
  HADAL_CL_FUNCTIONS(HADAL_CL_MEMBER)
#undef HADAL_CL_MEMBER
};

/// The loader's functions, or null and why not. The library stays loaded.
const Functions* find_functions(std::string* why);

/// "-54"
inline std::string code(cl_int status) { return std::to_string(status); }

}  // namespace hadal::opencl
