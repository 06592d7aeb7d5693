// Questions that may crash, hang or end whoever asks them, as those to a plug-in or to a driver's
// library: they are asked in a child process, so that all of this is an error here.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "base/result.h"

namespace hadal {

constexpr std::chrono::seconds kLoadingLimit{20};  ///< of a library

/// What `ask`, run in a child process, gave: a text without NUL. What the child prints on standard
/// output goes to its standard error, since ours is for results. Errors are in the words
/// "it crashes when DOING (Aborted)", kFailed; kBusy: no child can be started.
Result<std::string> ask_in_child(const std::function<std::string()>& ask, const std::string& doing,
                                 std::chrono::milliseconds limit);

}  // namespace hadal
