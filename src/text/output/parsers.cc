#include "text/output/parsers.h"

#include <algorithm>
#include <iterator>

namespace hadal {

size_t held_back(std::string_view text, std::string_view marker) {
  if (marker.empty()) return 0;
  for (size_t n = std::min(text.size(), marker.size() - 1); n > 0; --n)
    if (marker.starts_with(text.substr(text.size() - n))) return n;
  return 0;
}

void append(OutputDelta& delta, OutputDelta more) {
  delta.reasoning += more.reasoning;
  delta.content += more.content;
  std::move(more.tool_calls.begin(), more.tool_calls.end(), std::back_inserter(delta.tool_calls));
}

}  // namespace hadal
