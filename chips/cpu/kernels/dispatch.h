// Which kernel tables are built in, which of them this machine can run, and the choice among them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/kernels.h"

namespace hadal::cpu {

/// The tables that this machine can run, best first; the portable one is always the last.
std::vector<const KernelTable*> runnable_tables();

/// The table called `name`, or the best for an empty name; nullptr if this machine cannot run it or
/// no table is called so.
const KernelTable* find_table(std::string_view name);

/// The instruction sets that matter here and that this machine has, blanks between.
std::string instruction_sets();

/// The processor's own name, or "cpu".
std::string processor_name();

}  // namespace hadal::cpu
