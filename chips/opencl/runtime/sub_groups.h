// Sub-groups, where a device has them: sums of work-groups then need fewer barriers.
#pragma once

#include <string>

#include "runtime/device.h"

namespace hadal::opencl {

/// Options of builds that use the device's sub-groups; empty if it has none that this chip knows,
/// or if their sums have other bits than the plain ones, which is tried.
std::string find_sub_groups(Device& device, const std::string& extensions,
                            const std::string& language);

/// Have the sums of a build the bits of the plain ones?
bool same_trees(Device& device, const std::string& variant);

}  // namespace hadal::opencl
