// In place of xgrammar's support/recursion_guard.cc, which asks the environment for the depth: a
// library must not. xgrammar_core.cc sets it.
#include <support/recursion_guard.h>

namespace xgrammar {

int RecursionGuard::LoadMaxRecursionDepthFromEnv() { return kDefaultMaxRecursionDepth; }

std::atomic<int> RecursionGuard::max_recursion_depth_{LoadMaxRecursionDepthFromEnv()};

}  // namespace xgrammar
