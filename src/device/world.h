// World: the processes of a run as ranks, by a plug-in (hadal/comm.h), such as that of MPI.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "device/communicator.h"

namespace hadal {

/// Joins the processes of this run by the plug-in `name`, "mpi" for one (load_world_plugin).
/// Refuses a table that is not whole, and ranks that are none. Once in a process.
Result<std::unique_ptr<Communicator>> join_world(const std::string& name,
                                                 std::span<const std::filesystem::path> folders);

}  // namespace hadal
