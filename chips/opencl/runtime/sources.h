// The kernels of kernels/, compiled into the chip as text (CMakeLists.txt makes sources.cc).
#pragma once

#include <cstddef>
#include <string_view>
#include <utility>

namespace hadal::opencl {

constexpr size_t kGroup = 64;  ///< work-items of every work-group

using Source = std::pair<std::string_view, const char*>;
constexpr size_t kSourceCount = 10;
extern const Source kSources[kSourceCount];

}  // namespace hadal::opencl
