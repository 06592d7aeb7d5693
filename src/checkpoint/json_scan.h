// A first look over JSON from a file, before any parser builds something from it.
//
// One pass without recursion and without memory of its own. It bounds what the parser behind it can
// be made to do: depth of nesting, length of one string, number of keys. It does not judge the
// grammar; the parser does.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hadal {

struct JsonLimits {
  int64_t depth = 64;                       ///< arrays and objects within each other
  int64_t string_bytes = int64_t{8} << 20;  ///< of one string, as written
  int64_t keys = 8192;                      ///< in the whole text
};

/// Fails with `origin`, the byte and the limit that `text` exceeds.
Status scan_json(std::string_view text, const std::string& origin, const JsonLimits& limits);

}  // namespace hadal
