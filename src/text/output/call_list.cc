#include <algorithm>

#include "text/output/parsers.h"

namespace hadal {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

class CallListParser final : public OutputParser {
 public:
  explicit CallListParser(const CallSyntax& syntax) : syntax_(syntax) {}

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
    const size_t begin = held_.find(syntax_.list_begin);
    const bool begins = begin != std::string::npos;
    size_t sure = begins ? begin : held_.size() - held_back(held_, syntax_.list_begin);
    while (syntax_.newlines_before && sure > 0 && held_[sure - 1] == '\n') --sure;
    newlines_ = begins ? begin - sure : 0;
    delta.content.append(held_, 0, sure);
    held_.erase(0, begins ? begin + syntax_.list_begin.size() : sure);
    in_calls_ = begins;
    pending_begin_ = begins;
    searched_ = 0;
    return begins;
  }

  /// One call, or the end of the list; true if it was there.
  bool call(OutputDelta& delta) {
    // A marker may have begun in what was searched before.
    const size_t from = searched_ - std::min(searched_, syntax_.list_end.size());
    const size_t call_end = held_.find(syntax_.call_end, from);
    const size_t list_end = held_.find(syntax_.list_end, from);
    const size_t at = std::min(call_end, list_end);
    searched_ = held_.size();
    if (at == std::string::npos) return false;
    if (at == list_end) {
      give_up(held_.substr(0, at), delta, syntax_.list_end);
      in_calls_ = false;
    } else if (std::optional<ToolCall> found =
                   syntax_.parse(std::string_view(held_).substr(0, at))) {
      delta.tool_calls.push_back(*std::move(found));
      pending_begin_ = false;
    } else {
      give_up(held_.substr(0, at + syntax_.call_end.size()), delta);
    }
    held_.erase(0, at + (at == list_end ? syntax_.list_end.size() : syntax_.call_end.size()));
    searched_ = 0;
    return true;
  }

  /// What is no call becomes content, with the list's begin if no call stood behind it, and with
  /// `end` where anything is left.
  void give_up(std::string_view rest, OutputDelta& delta, std::string_view end = {}) {
    const bool left = pending_begin_ || (in_calls_ ? !strip_blanks(rest).empty() : !rest.empty());
    if (pending_begin_) delta.content += std::string(newlines_, '\n');
    if (pending_begin_) delta.content += syntax_.list_begin;
    if (left) delta.content += rest;
    if (left) delta.content += end;
    pending_begin_ = false;
  }

  const CallSyntax& syntax_;
  std::string held_;
  size_t newlines_ = 0;  ///< before the list's begin, not yet content
  bool in_calls_ = false;
  bool pending_begin_ = false;  ///< the begin of the list has become neither a call nor content
  size_t searched_ = 0;         ///< bytes of held_ without a whole marker
};

}  // namespace

std::string_view strip_blanks(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

bool has_blanks(std::string_view text) {
  return text.find_first_of(kBlanks) != std::string_view::npos;
}

bool take(std::string_view& text, std::string_view front) {
  if (!text.starts_with(front)) return false;
  text.remove_prefix(front.size());
  return true;
}

std::optional<std::string_view> take_until(std::string_view& text, std::string_view end) {
  const size_t at = text.find(end);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view before = text.substr(0, at);
  text.remove_prefix(at + end.size());
  return before;
}

std::unique_ptr<OutputParser> make_call_list_parser(const CallSyntax& syntax) {
  return std::make_unique<CallListParser>(syntax);
}

}  // namespace hadal
