// Each operator, and each part of another level, runs in a process of its own: a hang or a crash of
// the chip is a finding with the name of the case, and the rest goes on.
//
// A worker is this program again, with a pipe on which it says what it does, a JSON object a line:
// {"begin": line, "text": case, "at": n} before a case, {"fail"} and {"note"} at once,
// {"line", "counts"} before the next case, {"chip"} once, {"error"} if the chip does not open (or,
// of the level `real`, if what was asked for cannot be), and {"done"} when all is closed. A worker
// that says nothing for the time limit is killed; one that broke off is started again behind the
// case that broke it, a few times. The worker of the level `real` is `hadal chip distance`, which
// speaks the same words.
#pragma once

#include "report.h"

namespace hadal::conformance {

/// What one worker does.
struct Unit {
  std::string level;
  std::string part;  ///< operator, family or model's file; empty: the whole level
};

struct Isolation {
  double limit_seconds = 120;  ///< without progress
  bool in_process = false;     ///< for a debugger: no worker, a crash ends the kit
};

/// Opens the chip in a worker. Returns why it does not open, or nothing and what it says of itself.
std::string ask_chip(const Options& options, const Isolation& isolation, Json& chip);
/// Runs a unit and adds what was found. Returns nothing, or of the level `real` what the user asked
/// for that cannot be: then nothing was tested.
std::string run_unit(const Unit& unit, const Options& options, const Isolation& isolation,
                     Report& report);

/// In the worker: runs a unit from its case `first` on, and writes events to `fd`. Returns the
/// exit status.
int work(const Unit& unit, const Options& options, int64_t first, int fd);

}  // namespace hadal::conformance
