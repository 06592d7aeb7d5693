// The parsers that output.cc puts together, and what they share. Internal to text/output.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "text/output/output.h"

namespace hadal {

/// What stands at the front of a text that may go on.
struct CallScan {
  enum class Kind { kNoCall, kIncomplete, kCall } kind = Kind::kNoCall;
  size_t bytes = 0;    ///< of a call, with the blanks before it
  ToolCall call = {};  ///< kCall
  /// Of kIncomplete: nothing is decided before this text stands at byte `from` or later. "": any
  /// further text may decide.
  std::string awaited = {};
  size_t from = 0;
};

/// How a family writes a list of tool calls.
struct CallSyntax {
  std::string_view list_begin, list_end, call_begin, call_end;
  bool newlines_before = false;  ///< newlines before the list belong to it
  bool ends_thought = false;     ///< a call ends a thought that is open
  /// The call that `text` begins with, blanks before it aside. What it says of a text holds for
  /// whatever follows that text.
  CallScan (*scan)(std::string_view text);
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

/// `text` without spaces, tabs and line ends at both of its ends.
std::string_view strip_blanks(std::string_view text);

/// Reads a text that may go on. A step that fails moves nothing and remembers whether more text
/// could still let it, or one tried before it at the same place, succeed.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}

  void skip_blanks();
  bool take(std::string_view marker);
  /// Text up to `end`, which is taken too. Fails for good once `forbidden` stands before it.
  std::optional<std::string_view> take_until(std::string_view end, std::string_view forbidden = {});
  /// A name up to `end`: at least one character, no blanks.
  std::optional<std::string_view> take_name(std::string_view end);
  /// A JSON value. Numbers may be larger than any machine's. `end`: what must follow in the end.
  std::optional<std::string_view> take_json(std::string_view end);

  [[nodiscard]] std::string_view rest() const { return text_.substr(at_); }
  [[nodiscard]] size_t at() const { return at_; }
  void move(size_t bytes);
  /// Fails for want of text, until `awaited` comes somewhere in the rest behind `offset`.
  void fail_for_now(std::string_view awaited = {}, size_t offset = 0);
  [[nodiscard]] CallScan failure() const;

 private:
  std::string_view text_;
  size_t at_ = 0;
  bool short_ = false;
  std::string awaited_;
  size_t from_ = 0;
};

/// Bytes at the end of `text` that may become `marker` with what follows: they must be held back.
size_t held_back(std::string_view text, std::string_view marker);

}  // namespace hadal
