// Memories and the copies between them and the host.
#pragma once

#include "runtime/device.h"

namespace hadal::opencl {

/// Fills the memory and copy functions of the table.
void fill_memory_functions(hadal_chip& chip);

}  // namespace hadal::opencl
