// DSML, the mark-up in which DeepSeek-V3.2 and later call tools. Read by text/output/dsml.cc.
//
//   <｜DSML｜tool_calls>
//   <｜DSML｜invoke name="NAME">
//   <｜DSML｜parameter name="KEY" string="true">TEXT</｜DSML｜parameter>
//   <｜DSML｜parameter name="KEY" string="false">JSON</｜DSML｜parameter>
//   </｜DSML｜invoke>
//   </｜DSML｜tool_calls>
#pragma once

#include "text/chat/format.h"

namespace hadal::chat {

/// How a family spells its tags.
struct DsmlTags {
  std::string_view calls;           ///< the list of calls: "｜DSML｜tool_calls"
  std::string_view invoke;          ///< "｜DSML｜invoke"
  std::string_view parameter;       ///< "｜DSML｜parameter"
  bool blank_line_for_none = true;  ///< a call without arguments holds an empty line
};

inline constexpr DsmlTags kDsmlV32 = {"｜DSML｜function_calls", "｜DSML｜invoke",
                                      "｜DSML｜parameter"};
inline constexpr DsmlTags kDsmlV4 = {"｜DSML｜tool_calls", "｜DSML｜invoke", "｜DSML｜parameter",
                                     false};
inline constexpr DsmlTags kDsmlV41 = {"｜DSML｜ calls", "｜DSML｜ invoke", "｜DSML｜ parameter"};

/// A blank line and the calls of messages[index]; nothing where it has none. Errors: arguments that
/// are no JSON object.
Status write_dsml_calls(PromptBuilder& out, const std::vector<ChatMessage>& messages, size_t index,
                        const DsmlTags& tags);

/// The section on the answer's shape behind the system text and the tools; nothing for plain text.
/// object_as_schema: a JSON object without a schema is asked for like one, as in V3.2 and V4.1.
void write_response_format(PromptBuilder& out, const ChatRequest& request, bool object_as_schema);

}  // namespace hadal::chat
