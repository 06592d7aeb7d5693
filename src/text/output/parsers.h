// The parsers that output.cc puts together, and what they share. Internal to text/output.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "text/output/output.h"

namespace hadal {

/// How a family writes a list of tool calls behind the content.
struct CallSyntax {
  std::string_view list_begin, list_end, call_end;
  bool newlines_before = false;  ///< newlines before the list belong to it
  bool ends_thought = false;     ///< a list ends a thought that is open
  /// The call in `text`, which stands between the list's begin or a call's end and the next call's
  /// end; nothing where it is not formed as it should be.
  std::optional<ToolCall> (*parse)(std::string_view text);
};
extern const CallSyntax kDeepSeekCalls;     ///< V2.5 to R1-0528
extern const CallSyntax kDeepSeekV31Calls;  ///< V3.1
extern const CallSyntax kDsmlV32Calls, kDsmlV4Calls, kDsmlV41Calls;

/// Thoughts apart from the rest, which goes through `content`; an open thought ends before
/// `closer` too, unless that is empty. See think.cc.
std::unique_ptr<OutputParser> make_think_parser(bool in_thought, AnswerStart start,
                                                std::string_view closer,
                                                std::unique_ptr<OutputParser> content);
/// Tool calls apart from the content. A call comes out once it is whole. One that is not formed as
/// the syntax says comes out as content with its markers, and so does what the stream's end cuts
/// off. White space around calls is dropped.
std::unique_ptr<OutputParser> make_call_list_parser(const CallSyntax& syntax);

/// `text` without spaces, tabs and line ends at both of its ends.
std::string_view strip_blanks(std::string_view text);
bool has_blanks(std::string_view text);
/// Takes `front` off; false where `text` does not begin with it.
bool take(std::string_view& text, std::string_view front);
/// Takes off everything up to and with `end`; what stood before it, or nothing where it is missing.
std::optional<std::string_view> take_until(std::string_view& text, std::string_view end);

/// Bytes at the end of `text` that may become `marker` with what follows: they must be held back.
size_t held_back(std::string_view text, std::string_view marker);
/// Adds `more` to `delta`.
void append(OutputDelta& delta, OutputDelta more);

}  // namespace hadal
