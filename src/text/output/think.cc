// <think>reasoning</think>content.
//
// In a thought from the start if the prompt opened it (R1); otherwise if the answer begins with
// <think>, blanks before it aside. A <think> that repeats what the prompt wrote is dropped. The
// first </think> ends the thought; later markers, and a </think> without a thought, are text.
// Newlines right after <think> and on both sides of </think> belong to the markers and are dropped;
// other white space stays. A list of tool calls ends a thought too, where the family's models do
// that. A thought that the stream's end cuts off stays reasoning.
#include <algorithm>

#include "text/output/parsers.h"

namespace hadal {
namespace {

constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";
constexpr std::string_view kBlanks = " \t\r\n";

class ThinkParser final : public OutputParser {
 public:
  ThinkParser(bool in_thought, AnswerStart start, std::string_view closer,
              std::unique_ptr<OutputParser> content)
      : in_thought_(in_thought), closer_(closer), content_(std::move(content)) {
    if (start == AnswerStart::kContinued) state_ = in_thought ? State::kThought : State::kContent;
  }

  OutputDelta push(std::string_view piece) override {
    held_ += piece;
    OutputDelta delta;
    if (state_ == State::kStart) start();
    if (state_ == State::kThought) thought(delta);
    if (state_ == State::kContent) content(delta);
    return delta;
  }

  OutputDelta finish() override {
    OutputDelta delta;
    if (state_ == State::kStart) state_ = in_thought_ ? State::kThought : State::kContent;
    if (state_ == State::kThought) {
      if (at_start_) drop_newlines();
      delta.reasoning = std::move(held_);
      held_.clear();
      state_ = State::kContent;
    } else {
      content(delta);
    }
    append(delta, content_->finish());
    return delta;
  }

 private:
  enum class State { kStart, kThought, kContent };

  /// True once something stands behind the newlines.
  bool drop_newlines() {
    held_.erase(0, held_.find_first_not_of('\n'));
    return !held_.empty();
  }

  void start() {
    const std::string_view rest =
        std::string_view(held_).substr(std::min(held_.find_first_not_of(kBlanks), held_.size()));
    const bool opens = rest.starts_with(kOpen);
    if (!opens && kOpen.starts_with(rest)) return;
    if (opens) held_.erase(0, held_.size() - rest.size() + kOpen.size());
    state_ = opens || in_thought_ ? State::kThought : State::kContent;
    at_start_ = state_ == State::kThought;
  }

  void thought(OutputDelta& delta) {
    if (at_start_ && !drop_newlines()) return;
    at_start_ = false;
    const size_t close = held_.find(kClose);
    const size_t other = closer_.empty() ? std::string::npos : held_.find(closer_);
    const bool closed = std::min(close, other) != std::string::npos;
    size_t sure =
        closed ? std::min(close, other)
               : held_.size() - std::max(held_back(held_, kClose), held_back(held_, closer_));
    while (sure > 0 && held_[sure - 1] == '\n') --sure;
    delta.reasoning.append(held_, 0, sure);
    held_.erase(0, close < other ? close + kClose.size() : sure);
    if (!closed) return;
    state_ = State::kContent;
    at_start_ = true;
  }

  void content(OutputDelta& delta) {
    if (at_start_ && !drop_newlines()) return;
    at_start_ = false;
    append(delta, content_->push(held_));
    held_.clear();
  }

  bool in_thought_;
  std::string_view closer_;  ///< ends a thought beside kClose, and belongs to what follows
  std::unique_ptr<OutputParser> content_;
  State state_ = State::kStart;
  bool at_start_ = false;  ///< newlines that come now belong to the marker before them
  std::string held_;
};

}  // namespace

std::unique_ptr<OutputParser> make_think_parser(bool in_thought, AnswerStart start,
                                                std::string_view closer,
                                                std::unique_ptr<OutputParser> content) {
  return std::make_unique<ThinkParser>(in_thought, start, closer, std::move(content));
}

}  // namespace hadal
