// Output parsers: any text, cut anywhere, gives what the whole text gives, and gains no byte but
// those that JSON's escapes need. The pieces of a call that completes are the call.
//
// Input: one byte that chooses the parser, one for the seed of the cuts, then the text.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/output/output.h"

namespace {

struct Parsed {
  std::string reasoning, content, calls;
  bool operator==(const Parsed&) const = default;
};

/// The calls that were begun, by their pieces alone.
using Begun = std::vector<hadal::ToolCall>;

void hear(const hadal::OutputDelta& delta, Begun& begun) {
  size_t completed = 0;
  for (const hadal::ToolCallPiece& piece : delta.call_pieces) {
    if (!piece.name.empty()) begun.push_back({.name = piece.name});
    HADAL_CHECK(!begun.empty() && piece.index == begun.size() - 1);
    begun.back().arguments += piece.arguments;
    if (!piece.completes) continue;
    HADAL_CHECK(completed < delta.tool_calls.size());
    const hadal::ToolCall& call = delta.tool_calls[completed++];
    HADAL_CHECK(begun.back().name == call.name && begun.back().arguments == call.arguments);
  }
  HADAL_CHECK(completed == delta.tool_calls.size());
}

void collect(const hadal::OutputDelta& delta, Parsed& all) {
  all.reasoning += delta.reasoning;
  all.content += delta.content;
  for (const hadal::ToolCall& call : delta.tool_calls)
    all.calls += call.name + "\n" + call.arguments + "\n";
}

/// Pieces of 1 to 16 bytes by a generator from `seed`; the whole text at once for 0.
Parsed parse(std::string_view format, bool thinking, std::string_view text, uint32_t seed) {
  auto parser = hadal::make_output_parser(format, thinking);
  HADAL_CHECK(parser.has_value());
  Parsed all;
  Begun begun;
  const auto take = [&](const hadal::OutputDelta& delta) {
    hear(delta, begun);
    collect(delta, all);
  };
  while (!text.empty()) {
    const size_t size = seed == 0 ? text.size() : 1 + (seed >> 28);
    take((*parser)->push(text.substr(0, size)));
    text.remove_prefix(size < text.size() ? size : text.size());
    seed = seed * 1664525u + (seed == 0 ? 0u : 1013904223u);
  }
  take((*parser)->finish());
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const auto parsers = hadal::output_parsers();
  const std::string_view format = parsers[(data[0] >> 1) % parsers.size()];
  const bool thinking = (data[0] & 1) != 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const Parsed whole = parse(format, thinking, text, 0);
  HADAL_CHECK(parse(format, thinking, text, 0x9E3779B9u * (data[1] + 1u) | 1u) == whole);
  HADAL_CHECK(parse(format, thinking, text, 1) == whole);
  // In DSML a value is raw text, which may grow sixfold as a JSON string.
  const size_t calls = format.find("dsml") == format.npos ? whole.calls.size() : 0;
  HADAL_CHECK(whole.reasoning.size() + whole.content.size() + calls <= text.size());
  if (format == "text") HADAL_CHECK(whole.content == text);
  return 0;
}
