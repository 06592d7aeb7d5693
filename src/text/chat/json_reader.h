// JSON from outside: a request's body, a call's arguments.
//
// Builds the value by nlohmann's event parser, which keeps its own stack, within the limits of
// base/limits.h: depth, keys of one object, values in all. So the work and the memory that a text
// can ask for stay in proportion to its bytes: nlohmann's own reader of ordered objects searches
// every key in all before it. Refused, with the path of the field: what is no JSON (NaN among it),
// invalid UTF-8, lone surrogates, numbers outside of a double's range.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hadal::chat {

using OrderedJson = nlohmann::ordered_json;

/// A key that an object has twice.
enum class JsonKeys : uint8_t {
  kLastCounts,  ///< the later value takes the place of the first, as in Python
  kUnique,      ///< refused: readers that differ in what they take would see two requests
};

/// How a path goes on into an object: ".key", or ["key"] where the key is no plain name.
std::string json_step(const std::string& key);

/// Where a request's body stands in a text.
enum class JsonBody : uint8_t {
  kRoot,    ///< it is all of it
  kMember,  ///< the root's member "body", which so lies one level deeper
};

/// `what` names the text where no path does; "request" is left out in front of one. Entries of the
/// body's list "prompt" are ids, bounded by a row of their own. Errors: kUsage.
Result<OrderedJson> read_json(std::string_view text, std::string_view what, JsonKeys keys,
                              JsonBody body = JsonBody::kRoot);

}  // namespace hadal::chat
