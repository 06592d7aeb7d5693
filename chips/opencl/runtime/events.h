// The table `events`: a queue that waits for what stands in another, so that copies of one go on
// while kernels of the other run. Without pinned memory and copies between devices.
#pragma once

#include "runtime/device.h"

namespace hadal::opencl {

extern const hadal_events_table kEventsTable;

}  // namespace hadal::opencl
