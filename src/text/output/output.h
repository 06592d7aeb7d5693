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

/// Part of a tool call that is being written. The arguments of the pieces of one index, put
/// together, are those of the call, if it completes. A call that was begun by pieces and then turns
/// out to be none (not formed as the syntax says, or cut off by the end) gets no piece that
/// completes it: its text becomes content or reasoning, and its index is not used again. Whether
/// such a call was begun at all may depend on how the stream was cut.
struct ToolCallPiece {
  size_t index = 0;            ///< of the calls of this answer that were begun, from 0
  std::string id = {};         ///< with the first piece, where the model gave one
  std::string name = {};       ///< with the first piece alone
  std::string arguments = {};  ///< what follows of the arguments' JSON text, in whole characters
  bool completes = false;      ///< the call is whole: it is in `tool_calls` of the same delta, too
};

/// What one push made certain. A tool call comes out by pieces, and once more when it is whole.
/// Text before a call that is held back (newlines; see make_output_parser) is settled with the
/// whole call: behind the first pieces.
struct OutputDelta {
  std::string reasoning = {};
  std::string content = {};
  std::vector<ToolCall> tool_calls = {};        ///< calls completed by this push
  std::vector<ToolCallPiece> call_pieces = {};  ///< at most one of an index

  /// Puts what came later behind it. A piece that goes on with the last one's call is put together
  /// with it.
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
