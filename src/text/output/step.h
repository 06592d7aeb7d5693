// How a step in a text that may go on went. Internal to text/output.
#pragma once

#include <cstdint>

namespace hadal {

/// The greater of two: that of "the one or the other".
enum class Step : uint8_t {
  kNever,  ///< not what is looked for, whatever follows
  kShort,  ///< more text must decide
  kDone,
};

}  // namespace hadal
