// What this process may use of its machine: memory, processors and threads, cgroup limits
// respected.
#pragma once

#include <cstdint>
#include <optional>

namespace hadal {

/// Bytes that can still be allocated without swapping: the least of MemAvailable and the cgroup's
/// limit less its use.
uint64_t available_memory();

/// Processors that this process may run on at once: the least of its affinity mask and its cgroup's
/// quota, at least 1.
int32_t available_processors();

/// The most threads that its cgroup may have; nullopt without such a limit.
std::optional<uint64_t> cgroup_threads();

}  // namespace hadal
