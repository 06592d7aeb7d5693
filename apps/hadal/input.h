// What comes in by standard input when it is no terminal, and how it meets the question of the
// command line.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"

namespace hadal::app {

/// Standard input to its end.
Result<std::string> read_stdin();

/// What the command line and standard input ask together: text that is piped in or comes from a
/// file is the context and goes before `given`, with a blank line between. Nothing if neither is
/// there and a terminal is: that is a chat.
///
/// A pipe, a file or a socket is read to its end, however long that takes; after two silent seconds
/// a note says what is waited for. Other devices, /dev/null above all, hold no context.
Result<std::optional<std::string>> whole_question(const std::optional<std::string>& given);

}  // namespace hadal::app
