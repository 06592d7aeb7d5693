// The other processes of a run that mpirun started: `mpirun -n 4 hadal run MODEL "question"`.
//
// Rank 0 is the program that the user sees; the others hold a part of the model each, follow rank 0
// and print nothing but errors.
#pragma once

#include "base/result.h"
#include "device/communicator.h"

namespace hadal::app {

/// Joins the others, once; does nothing in a process that was started alone.
Status join_others();

/// The way to the others; null: there are none, or they were not joined.
Communicator* world();

/// The end of a process that is not rank 0. Does not return.
void end_of_rank(const Status& followed);

}  // namespace hadal::app
