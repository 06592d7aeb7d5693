// Tool calls as DeepSeek-V2.5, V3, R1 and R1-0528 write them, behind the content:
//
//   <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```<｜tool▁call▁end｜>
//   (newline, next call)…<｜tool▁calls▁end｜>
//
// and as V3.1 does, without type word, fence and newlines: NAME<｜tool▁sep｜>ARGUMENTS.
#include "text/output/parsers.h"

namespace hadal {
namespace {

constexpr std::string_view kCallBegin = "<｜tool▁call▁begin｜>";
constexpr std::string_view kCallEnd = "<｜tool▁call▁end｜>";
constexpr std::string_view kSeparator = "<｜tool▁sep｜>";

CallScan scan_call(std::string_view text, bool fenced) {
  Cursor in(text);
  in.skip_blanks();
  if (!in.take(kCallBegin)) return in.failure();
  if (fenced && (!in.take("function") || !in.take(kSeparator))) return in.failure();
  const auto name = in.take_name(fenced ? "\n```json\n" : kSeparator);
  if (!name) return in.failure();
  in.skip_blanks();
  if (!in.rest().empty() && !in.rest().starts_with('{')) return {};
  const auto arguments = in.take_json(kCallEnd);
  if (!arguments) return in.failure();
  in.skip_blanks();
  if (fenced) {
    const bool own_line = text[in.at() - 1] == '\n';
    if (!in.take("```")) return in.failure();
    if (!own_line) return {};
    in.skip_blanks();
  }
  if (!in.take(kCallEnd)) return in.failure();
  return {.kind = CallScan::Kind::kCall,
          .bytes = in.at(),
          .call = {.name = std::string(*name), .arguments = std::string(*arguments)}};
}

template <bool fenced>
constexpr CallSyntax syntax() {
  return {.list_begin = "<｜tool▁calls▁begin｜>",
          .list_end = "<｜tool▁calls▁end｜>",
          .call_begin = kCallBegin,
          .call_end = kCallEnd,
          .scan = [](std::string_view text) { return scan_call(text, fenced); }};
}

}  // namespace

constexpr CallSyntax kDeepSeekCalls = syntax<true>();
constexpr CallSyntax kDeepSeekV31Calls = syntax<false>();

}  // namespace hadal
