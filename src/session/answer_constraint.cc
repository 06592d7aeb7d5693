#include "session/answer_constraint.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace hadal {
namespace {

constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";
/// Newlines between a thought and what a grammar describes.
constexpr int64_t kNewlines = 2;

/// Where an answer stands; small, so that guesses are tried on a copy.
struct State {
  enum class Part : uint8_t { kStart, kThought, kClosing, kAnswer } part = Part::kStart;
  std::string tail;      ///< of a thought: its last bytes, too few to be the mark
  int64_t thought = 0;   ///< tokens of it
  size_t closed = 0;     ///< tokens of the mark that have come
  int64_t newlines = 0;  ///< that may still come before the grammar's text
};

class AnswerConstraint final : public Constraint {
 public:
  AnswerConstraint(const Tokenizer& tokenizer, const AnswerRules& rules)
      : tokenizer_(tokenizer), budget_(rules.thinking_budget) {
    if (rules.grammar) matcher_ = make_matcher(rules.grammar);
    mark_ = ids_of(kClose);
    open_ = tokenizer.id_of(kOpen);
    for (const std::string_view text : {"\n", "\n\n"})
      if (const auto ids = tokenizer.encode(text); ids.size() == 1) newline_.push_back(ids[0]);
    if (rules.thought == ThoughtAt::kOpen)
      enter_thought(state_);
    else if (rules.thought == ThoughtAt::kNone || !open_)
      state_.part = State::Part::kAnswer;
  }

  void accept(TokenId token) override { (void)advance(state_, token); }

  bool restrict(std::span<const TokenId> drafts, std::span<uint32_t> allowed) override {
    State state = state_;
    const int64_t matched = matched_;
    bool possible = true;
    for (size_t i = 0; possible && i < drafts.size(); ++i) possible = advance(state, drafts[i]);
    // Behind a guess that cannot come nothing will be kept.
    const bool restricted = possible && fill(state, allowed);
    if (matched_ > matched) matcher_->rollback(matched_ - matched);
    matched_ = matched;
    return restricted;
  }

 private:
  [[nodiscard]] std::vector<TokenId> ids_of(std::string_view mark) const {
    if (const auto id = tokenizer_.id_of(mark)) return {*id};
    return tokenizer_.encode(mark);
  }

  void enter_thought(State& state) const {
    state.part = budget_ && *budget_ <= 0 ? State::Part::kClosing : State::Part::kThought;
  }

  static void enter_answer(State& state) {
    state.part = State::Part::kAnswer;
    state.newlines = kNewlines;
  }

  /// Moves on by a token; false if the grammar forbids it.
  bool advance(State& state, TokenId token) {
    switch (state.part) {
      case State::Part::kStart:
        if (token == open_) {
          enter_thought(state);
          return true;
        }
        state.part = State::Part::kAnswer;
        return match(state, token);
      case State::Part::kThought:
        ++state.thought;
        state.tail += tokenizer_.token_bytes(token);
        if (state.tail.find(kClose) != std::string::npos)
          enter_answer(state);
        else if (budget_ && state.thought >= *budget_)
          state.part = State::Part::kClosing;
        state.tail.erase(0, state.tail.size() - std::min(state.tail.size(), kClose.size() - 1));
        return true;
      case State::Part::kClosing:
        // An ending token ends the answer, mark or not.
        if (token == mark_[state.closed] && ++state.closed == mark_.size()) enter_answer(state);
        return true;
      case State::Part::kAnswer:
        return match(state, token);
    }
    return true;
  }

  bool match(State& state, TokenId token) {
    if (!matcher_) return true;
    if (state.newlines > 0) {
      const std::string bytes = tokenizer_.token_bytes(token);
      const auto size = static_cast<int64_t>(bytes.size());
      if (size > 0 && size <= state.newlines &&
          bytes.find_first_not_of('\n') == std::string::npos) {
        state.newlines -= size;
        return true;
      }
      state.newlines = 0;
    }
    if (!matcher_->accept(token)) return false;
    ++matched_;
    return true;
  }

  static void allow(std::span<uint32_t> allowed, TokenId token) {
    allowed[static_cast<size_t>(token / 32)] |= uint32_t{1} << (token % 32);
  }

  bool fill(const State& state, std::span<uint32_t> allowed) {
    switch (state.part) {
      case State::Part::kThought:
        return false;
      case State::Part::kClosing:
        std::fill(allowed.begin(), allowed.end(), 0U);
        allow(allowed, mark_[state.closed]);
        return true;
      case State::Part::kStart:
      case State::Part::kAnswer:
        break;
    }
    if (!matcher_) return false;
    (void)matcher_->fill(allowed);  // nothing left is seen by who reads the bits
    if (state.part == State::Part::kStart) allow(allowed, *open_);
    for (size_t i = 0; i < newline_.size(); ++i)
      if (static_cast<int64_t>(tokenizer_.token_bytes(newline_[i]).size()) <= state.newlines)
        allow(allowed, newline_[i]);
    return true;
  }

  const Tokenizer& tokenizer_;
  std::optional<int64_t> budget_;
  std::unique_ptr<GrammarMatcher> matcher_;
  std::vector<TokenId> mark_, newline_;
  std::optional<TokenId> open_;
  State state_;
  int64_t matched_ = 0;  ///< tokens that the matcher has accepted
};

}  // namespace

std::unique_ptr<Constraint> make_answer_constraint(const Tokenizer& tokenizer,
                                                   const AnswerRules& rules) {
  return std::make_unique<AnswerConstraint>(tokenizer, rules);
}

}  // namespace hadal
