// The kernels of kernels/, compiled into the chip as text (CMakeLists.txt makes sources.cc).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace hadal::opencl {

constexpr size_t kGroup = 64;  ///< work-items of every work-group

using Source = std::pair<std::string_view, const char*>;
constexpr size_t kSourceCount = 14;
extern const Source kSources[kSourceCount];

/// The whole text of the program of one file, named without .cl.
std::string program_source(std::string_view file);

}  // namespace hadal::opencl
