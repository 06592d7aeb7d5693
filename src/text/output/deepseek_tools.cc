// Tool calls as DeepSeek-V2.5, V3, R1 and R1-0528 write them, behind the content:
//
//   <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```<｜tool▁call▁end｜>
//   (newline, next call)…<｜tool▁calls▁end｜>
//
// A call comes out once it is whole. One that is not formed like this, or whose arguments are no
// JSON object, comes out as content with its markers, and so does what the stream's end cuts off.
// White space around calls is dropped.
#include <nlohmann/json.hpp>

#include "text/output/parsers.h"

namespace hadal {
namespace {

constexpr std::string_view kCallsBegin = "<｜tool▁calls▁begin｜>";
constexpr std::string_view kCallsEnd = "<｜tool▁calls▁end｜>";
constexpr std::string_view kCallBegin = "<｜tool▁call▁begin｜>";
constexpr std::string_view kCallEnd = "<｜tool▁call▁end｜>";
constexpr std::string_view kSeparator = "function<｜tool▁sep｜>";
constexpr std::string_view kFence = "\n```json\n";
constexpr std::string_view kFenceEnd = "\n```";
constexpr std::string_view kBlanks = " \t\r\n";

std::string_view strip_blanks(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

bool take(std::string_view& text, std::string_view front) {
  if (!text.starts_with(front)) return false;
  text.remove_prefix(front.size());
  return true;
}

/// The call in `text`, which ends before kCallEnd.
std::optional<ToolCall> parse_call(std::string_view text) {
  text = strip_blanks(text);
  if (!take(text, kCallBegin) || !take(text, kSeparator)) return std::nullopt;
  const size_t fence = text.find(kFence);
  if (fence == 0 || fence == std::string_view::npos || !text.ends_with(kFenceEnd))
    return std::nullopt;
  const std::string_view name = text.substr(0, fence);
  if (name.find_first_of(kBlanks) != std::string_view::npos ||
      fence + kFence.size() + kFenceEnd.size() > text.size())
    return std::nullopt;
  text.remove_prefix(fence + kFence.size());
  text.remove_suffix(kFenceEnd.size());
  const std::string_view arguments = strip_blanks(text);
  if (!arguments.starts_with('{') || !nlohmann::json::accept(arguments)) return std::nullopt;
  return ToolCall{.name = std::string(name), .arguments = std::string(arguments)};
}

class DeepSeekToolsParser final : public OutputParser {
 public:
  OutputDelta push(std::string_view piece) override {
    held_ += piece;
    OutputDelta delta;
    while (in_calls_ ? call(delta) : text(delta)) {
    }
    return delta;
  }

  OutputDelta finish() override {
    OutputDelta delta;
    give_up(held_, delta);
    held_.clear();
    in_calls_ = false;
    return delta;
  }

 private:
  /// Content up to the next list of calls; true if one begins.
  bool text(OutputDelta& delta) {
    const size_t begin = held_.find(kCallsBegin);
    const bool begins = begin != std::string::npos;
    const size_t sure = begins ? begin : held_.size() - held_back(held_, kCallsBegin);
    delta.content.append(held_, 0, sure);
    held_.erase(0, begins ? begin + kCallsBegin.size() : sure);
    in_calls_ = begins;
    pending_begin_ = begins;
    searched_ = 0;
    return begins;
  }

  /// One call, or the end of the list; true if it was there.
  bool call(OutputDelta& delta) {
    // A marker may have begun in what was searched before.
    const size_t from = searched_ - std::min(searched_, kCallsEnd.size());
    const size_t call_end = held_.find(kCallEnd, from);
    const size_t list_end = held_.find(kCallsEnd, from);
    const size_t at = std::min(call_end, list_end);
    searched_ = held_.size();
    if (at == std::string::npos) return false;
    if (at == list_end) {
      give_up(held_.substr(0, at), delta, kCallsEnd);
      in_calls_ = false;
    } else if (std::optional<ToolCall> found = parse_call(std::string_view(held_).substr(0, at))) {
      delta.tool_calls.push_back(*std::move(found));
      pending_begin_ = false;
    } else {
      give_up(held_.substr(0, at + kCallEnd.size()), delta);
    }
    held_.erase(0, at + (at == list_end ? kCallsEnd.size() : kCallEnd.size()));
    searched_ = 0;
    return true;
  }

  /// What is no call becomes content, with the list's begin if no call stood behind it, and with
  /// `end` where anything is left.
  void give_up(std::string_view rest, OutputDelta& delta, std::string_view end = {}) {
    const bool left = pending_begin_ || (in_calls_ ? !strip_blanks(rest).empty() : !rest.empty());
    if (pending_begin_) delta.content += kCallsBegin;
    if (left) delta.content += rest;
    if (left) delta.content += end;
    pending_begin_ = false;
  }

  std::string held_;
  bool in_calls_ = false;
  bool pending_begin_ = false;  ///< the begin of the list has become neither a call nor content
  size_t searched_ = 0;         ///< bytes of held_ without a whole marker
};

}  // namespace

std::unique_ptr<OutputParser> make_deepseek_tools_parser() {
  return std::make_unique<DeepSeekToolsParser>();
}

}  // namespace hadal
