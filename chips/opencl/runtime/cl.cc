#include "runtime/cl.h"

#include <dlfcn.h>

#include <memory>

namespace hadal::opencl {
namespace {

constexpr const char* kLibraries[] = {"libOpenCL.so.1", "libOpenCL.so"};

std::unique_ptr<Functions> load(std::string* why) {
  // What is in the process already comes first: a checker such as oclgrind is preloaded.
  void* library = ::dlsym(RTLD_DEFAULT, "clGetPlatformIDs") ? ::dlopen(nullptr, RTLD_NOW) : nullptr;
  for (const char* name : kLibraries)
    if (!library) library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    *why = "no libOpenCL.so.1 was found; install an OpenCL loader (Debian: ocl-icd-libopencl1)";
    return nullptr;
  }
  auto found = std::make_unique<Functions>();
#define HADAL_CL_FIND(NAME)                                                                \
  found->NAME = reinterpret_cast<decltype(found->NAME)>(::dlsym(library, #NAME));          \
  if (!found->NAME) {                                                                      \
    *why = "the OpenCL loader lacks " #NAME ", which OpenCL 1.2 has; install a newer one"; \
    return nullptr;                                                                        \
  }
  HADAL_CL_FUNCTIONS(HADAL_CL_FIND)
#undef HADAL_CL_FIND
  return found;
}

}  // namespace

const Functions* find_functions(std::string* why) {
  static std::string reason;
  static const std::unique_ptr<Functions> functions = load(&reason);
  *why = reason;
  return functions.get();
}

}  // namespace hadal::opencl
