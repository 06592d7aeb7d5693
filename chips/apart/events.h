// The tables `events` and `comm`: queues that wait for each other, copies between devices, and sums
// over the ranks of one process. Called by the table of the chip.
#pragma once

#include <cstdint>
#include <memory>

#include "hadal/chip.h"

namespace hadal::apart {

class Group;

/// A device's place among the ranks of a group.
struct Comm {
  std::shared_ptr<Group> group;
  int32_t rank = 0;
};

/// For the worker: values <- the sums of all ranks, when every one has come.
hadal_status all_reduce(const Comm& comm, float* values, uint64_t count, hadal_error* error);
/// Whoever waits for this rank, now or later, fails.
void leave(const Comm& comm);

extern const hadal_events_table kEvents;
extern const hadal_comm_table kComm;

}  // namespace hadal::apart
