// The chips that are compiled in. Each is what a plug-in's hadal_chip_query is.
#pragma once

#include "hadal/chip.h"

extern "C" {
hadal_status hadal_ref_chip_query(const hadal_host* host, uint32_t abi, hadal_chip* out);
hadal_status hadal_cpu_chip_query(const hadal_host* host, uint32_t abi, hadal_chip* out);
}
