// The table `profile`: the device's own peaks, measured by kernels/profile.cl in about a second.
#pragma once

#include "runtime/device.h"

namespace hadal::opencl {

extern const hadal_profile_table kProfileTable;

}  // namespace hadal::opencl
