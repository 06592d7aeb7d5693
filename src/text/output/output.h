// Output parsers: split what a model writes into reasoning, content and tool calls, the same
// however the stream is cut.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/chat/chat.h"

namespace hadal {

/// What one push made certain. A tool call comes out whole.
struct OutputDelta {
  std::string reasoning = {};
  std::string content = {};
  std::vector<ToolCall> tool_calls = {};  ///< calls completed by this push

  /// Puts what came later behind it.
  void append(OutputDelta later);
};

/// Parses one answer. Broken input ends as text in content, never as an error.
class OutputParser {
 public:
  virtual ~OutputParser() = default;
  virtual OutputDelta push(std::string_view piece) = 0;
  virtual OutputDelta finish() = 0;
  /// Whether the text so far ends in a thought that was opened.
  [[nodiscard]] virtual bool in_thought() const = 0;
};

/// What an answer goes on with; of a continued prefix, newlines at its start count.
enum class AnswerStart { kNew, kContinued };

/// `format`: a chat format's name or output_parser name. `thinking`: the answer starts inside a
/// thought. Both as the Prompt says. For DeepSeek-R1 and R1-0528 a new answer that neither starts
/// in a thought nor begins with <think> is held until </think> shows that all of it was one, or a
/// tool call or the end that none of it was.
Result<std::unique_ptr<OutputParser>> make_output_parser(std::string_view format, bool thinking,
                                                         AnswerStart start = AnswerStart::kNew);

/// Whether answers in this format (names as above) usually start inside a thought: the prompt of a
/// plain question ends in one. An error for an unknown name.
Result<bool> output_starts_in_thought(std::string_view format);

/// All names of output parsers.
std::span<const std::string_view> output_parsers();

}  // namespace hadal
