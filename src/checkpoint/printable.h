// Bytes from a file, made fit to be printed: one line, no control or escape bytes, a bounded
// length.
//
// Every name or value that a message or `inspect` shows and that came from a file passes through
// here, so that a file cannot drive a terminal, break a log into lines or flood it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace hadal {

/// `bytes` with control characters, invalid UTF-8 and direction overrides as \xNN (and \n, \t, \r,
/// \\ as such), cut to about `limit` bytes with "…" where something was left out.
std::string printable(std::string_view bytes, size_t limit = 80);

/// The same in double quotes.
std::string quote(std::string_view bytes, size_t limit = 80);

/// Words that are fit to be printed as "a, b, c": the first eight, then "… and 4 more".
std::string listed(const std::vector<std::string>& words);

/// True if `bytes` is printed as it is: fit for a name.
bool is_printable(std::string_view bytes);

}  // namespace hadal
