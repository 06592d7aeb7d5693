// Tool calls as DeepSeek-V2.5, V3, R1 and R1-0528 write them, behind the content:
//
//   <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```<｜tool▁call▁end｜>
//   (newline, next call)…<｜tool▁calls▁end｜>
//
// and as V3.1 does, without type word, fence and newlines: NAME<｜tool▁sep｜>ARGUMENTS.
#include <nlohmann/json.hpp>

#include "text/output/parsers.h"

namespace hadal {
namespace {

constexpr std::string_view kCallBegin = "<｜tool▁call▁begin｜>";
constexpr std::string_view kSeparator = "<｜tool▁sep｜>";

std::optional<ToolCall> checked(std::string_view name, std::string_view arguments) {
  arguments = strip_blanks(arguments);
  if (name.empty() || has_blanks(name) || !arguments.starts_with('{') ||
      !nlohmann::json::accept(arguments))
    return std::nullopt;
  return ToolCall{.name = std::string(name), .arguments = std::string(arguments)};
}

std::optional<ToolCall> parse_fenced(std::string_view text) {
  constexpr std::string_view kFence = "\n```";
  text = strip_blanks(text);
  if (!take(text, kCallBegin) || !take(text, "function") || !take(text, kSeparator))
    return std::nullopt;
  const std::optional<std::string_view> name = take_until(text, "\n```json\n");
  if (!name || !text.ends_with(kFence)) return std::nullopt;
  return checked(*name, text.substr(0, text.size() - kFence.size()));
}

std::optional<ToolCall> parse_bare(std::string_view text) {
  text = strip_blanks(text);
  if (!take(text, kCallBegin)) return std::nullopt;
  const std::optional<std::string_view> name = take_until(text, kSeparator);
  return name ? checked(*name, text) : std::nullopt;
}

constexpr CallSyntax syntax(std::optional<ToolCall> (*parse)(std::string_view)) {
  return {.list_begin = "<｜tool▁calls▁begin｜>",
          .list_end = "<｜tool▁calls▁end｜>",
          .call_end = "<｜tool▁call▁end｜>",
          .parse = parse};
}

}  // namespace

constexpr CallSyntax kDeepSeekCalls = syntax(parse_fenced);
constexpr CallSyntax kDeepSeekV31Calls = syntax(parse_bare);

}  // namespace hadal
