// The other processes of a run that mpirun started: `mpirun -n 4 hadal run MODEL "question"`.
//
// Rank 0 is the program that the user sees, and the only one that reads standard input, writes
// files and listens. The others hold a part of the model each, follow rank 0 and print nothing but
// errors.
#pragma once

#include <functional>

#include "base/result.h"
#include "device/communicator.h"
#include "engine/ranks.h"

namespace hadal::app {

/// Joins the others, once; does nothing in a process that was started alone.
Status join_others();

/// The way to the others; null: there are none, or they were not joined.
Communicator* world();

/// Called before an error is printed. Those that are met before the processes joined are the same
/// in all of them, as a rule: rank 0 says it, and another only if mpirun has not ended it with rank
/// 0 after a while.
void let_rank_0_speak();

/// Of rank 0, once: the command is done, and the others may go.
Status leave_others();

/// What a process that is not rank 0 does: follow_rank_0.
[[noreturn]] void follow_and_end(const std::function<Result<RankModel>()>& open);

}  // namespace hadal::app
