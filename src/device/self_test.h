// The self-test of a chip from outside: a few small operators against their formulas, milliseconds
// beside what a chip takes to compile its kernels, whenever a plug-in is opened. It finds kernels
// that a driver or a compiler got wrong on this very machine, before a model speaks nonsense; what
// it does not look at, the conformance kit does.
#pragma once

#include "base/result.h"
#include "device/device.h"

namespace hadal {

/// Runs what the device takes of matmul (in the weight form that it likes best), norm, swiglu, add,
/// rope, kv_write with gqa_attention. An error names the operator, the number that is wrong, what
/// was expected, and how to find out more.
Status self_test(const Device& device);

}  // namespace hadal
