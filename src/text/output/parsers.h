// The parsers that output.cc puts together, and what they share. Internal to text/output.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "text/output/cursor.h"
#include "text/output/output.h"

namespace hadal {

/// Reads one tool call in a text that grows, with the blanks before it. Each family has its own.
class CallReader {
 public:
  explicit CallReader(std::string_view call_begin) : call_begin_(call_begin) {}
  virtual ~CallReader() = default;

  /// Reads on. `text`: the one so far, and what has come behind it. What it says holds for whatever
  /// follows: kDone, a call; kNever, none, and no more may be read.
  Step read(std::string_view text);

  /// Where the first byte that is no blank stands.
  [[nodiscard]] size_t begin() const { return begin_; }
  [[nodiscard]] bool begun() const { return begun_; }    ///< the call's begin stands there
  [[nodiscard]] size_t end() const { return in_.at(); }  ///< bytes read
  /// The name once it is certain, "" before; the arguments as far as they are, in whole characters.
  [[nodiscard]] const ToolCall& call() const { return call_; }

 protected:
  /// Reads on until something is settled, which `call_` keeps; `whole_` with the last of a call.
  virtual Step step() = 0;

  Cursor in_;
  ToolCall call_;
  bool whole_ = false;

 private:
  std::string_view call_begin_;
  size_t begin_ = 0;
  bool begun_ = false;
};

/// How a family writes a list of tool calls.
struct CallSyntax {
  std::string_view list_begin, list_end, call_begin, call_end;
  bool newlines_before = false;  ///< newlines before the list belong to it
  bool ends_thought = false;     ///< a call ends a thought that is open
  std::unique_ptr<CallReader> (*make_reader)(std::string_view call_begin) = nullptr;
};
extern const CallSyntax kDeepSeekCalls;     ///< V2.5 to R1-0528
extern const CallSyntax kDeepSeekV31Calls;  ///< V3.1
extern const CallSyntax kDsmlV32Calls, kDsmlV4Calls, kDsmlV41Calls;

/// Splits what is no call into reasoning and content.
class TextParser : public OutputParser {
 public:
  /// A call stands here: settles what was held back, and ends a thought.
  virtual OutputDelta call_follows() = 0;
};

/// Everything is content.
std::unique_ptr<TextParser> make_content_parser();
/// Thoughts apart from the content. See think.cc, also for `always_thinks`.
std::unique_ptr<TextParser> make_think_parser(bool in_thought, AnswerStart start,
                                              bool always_thinks);
/// Tool calls apart from the text, which goes through `text`. See call_list.cc.
std::unique_ptr<OutputParser> make_call_list_parser(const CallSyntax& syntax,
                                                    std::unique_ptr<TextParser> text);

}  // namespace hadal
