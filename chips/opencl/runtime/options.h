// What the user may say of a device: --chip-option NAME=VALUE.
#pragma once

#include <cstdint>
#include <string>

namespace hadal::opencl {

struct Options {
  int64_t largest_mib = 0;  ///< of one allocation at most; 0: as the device says
  int64_t split_kib = 0;    ///< of one buffer of a weight at most; 0: the largest allocation
  int64_t sub_groups = 1;   ///< 0: none are used
  int64_t stats = 0;        ///< 1: launches are told when the device is closed

  /// Takes NAME=VALUE; why it is none of them, or nothing.
  std::string set(const std::string& name, const std::string& value);
};

}  // namespace hadal::opencl
