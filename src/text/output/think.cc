// <think>reasoning</think>content.
//
// In a thought from the start if the prompt opened it (R1); otherwise if the answer begins with
// <think>, blanks before it aside. A <think> that repeats what the prompt wrote is dropped. The
// first </think> ends the thought; later markers, and a </think> without a thought, are text.
// Newlines right after <think> and on both sides of </think> belong to the markers and are dropped;
// other white space stays. A tool call ends a thought too, where the family's models do that
// (call_list.cc). A thought that the stream's end cuts off stays reasoning.
//
// `always_thinks`: the family's models think even where neither the prompt nor the answer says so
// (R1 as first shipped, R1-0528). What stands before </think> is reasoning then, <think> or not;
// where no </think> comes all is content. What was given out cannot be taken back, so such an
// answer is held until </think>, a tool call or the end decides.
#include <algorithm>
#include <utility>

#include "text/output/parsers.h"

namespace hadal {
namespace {

constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";
constexpr std::string_view kBlanks = " \t\r\n";

class ContentParser final : public TextParser {
 public:
  OutputDelta push(std::string_view piece) override { return {.content = std::string(piece)}; }
  OutputDelta finish() override { return {}; }
  [[nodiscard]] bool in_thought() const override { return false; }
  OutputDelta call_follows() override { return {}; }
};

class ThinkParser final : public TextParser {
 public:
  ThinkParser(bool in_thought, AnswerStart start, bool always_thinks)
      : in_thought_(in_thought), always_thinks_(always_thinks) {
    if (start == AnswerStart::kContinued) state_ = in_thought ? State::kThought : State::kContent;
  }

  OutputDelta push(std::string_view piece) override {
    held_ += piece;
    OutputDelta delta;
    if (state_ == State::kStart) start();
    if (state_ == State::kUndecided) undecided(delta);
    if (state_ == State::kThought) thought(delta);
    if (state_ == State::kContent) content(delta);
    return delta;
  }

  OutputDelta finish() override { return end(false); }
  OutputDelta call_follows() override { return end(true); }

  [[nodiscard]] bool in_thought() const override {
    return state_ == State::kThought || (state_ == State::kStart && in_thought_);
  }

 private:
  enum class State { kStart, kUndecided, kThought, kContent };

  /// What is held goes where it belongs as things stand; what follows is content. Before a call,
  /// newlines at the end of a thought belong to the call.
  OutputDelta end(bool call_follows) {
    OutputDelta delta;
    if (at_start_) drop_newlines();
    if (in_thought() && call_follows) held_.erase(held_.find_last_not_of('\n') + 1);
    (in_thought() ? delta.reasoning : delta.content) = std::exchange(held_, {});
    state_ = State::kContent;
    at_start_ = false;
    return delta;
  }

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
    state_ = opens || in_thought_ ? State::kThought
             : always_thinks_     ? State::kUndecided
                                  : State::kContent;
    at_start_ = state_ == State::kThought;
  }

  void undecided(OutputDelta& delta) {
    const bool closes = held_.find(kClose, searched_) != std::string::npos;
    searched_ = held_.size() - held_back(held_, kClose);
    if (!closes) return;
    state_ = State::kThought;
    at_start_ = true;
    thought(delta);
  }

  void thought(OutputDelta& delta) {
    if (at_start_ && !drop_newlines()) return;
    at_start_ = false;
    const size_t close = held_.find(kClose);
    const bool closed = close != std::string::npos;
    size_t sure = closed ? close : held_.size() - held_back(held_, kClose);
    while (sure > 0 && held_[sure - 1] == '\n') --sure;
    delta.reasoning.append(held_, 0, sure);
    held_.erase(0, closed ? close + kClose.size() : sure);
    if (!closed) return;
    state_ = State::kContent;
    at_start_ = true;
  }

  void content(OutputDelta& delta) {
    if (at_start_ && !drop_newlines()) return;
    at_start_ = false;
    delta.content += std::exchange(held_, {});
  }

  bool in_thought_, always_thinks_;
  State state_ = State::kStart;
  bool at_start_ = false;  ///< newlines that come now belong to the marker before them
  std::string held_;
  size_t searched_ = 0;  ///< of kUndecided: bytes of held_ without a whole kClose
};

}  // namespace

std::unique_ptr<TextParser> make_content_parser() { return std::make_unique<ContentParser>(); }

std::unique_ptr<TextParser> make_think_parser(bool in_thought, AnswerStart start,
                                              bool always_thinks) {
  return std::make_unique<ThinkParser>(in_thought, start, always_thinks);
}

}  // namespace hadal
