// A list of tool calls: its begin, calls, its end; text before and behind it.
//
// A list is whatever stands behind its begin. A call comes out by pieces as it is read, and once it
// is whole. All else in a list is text, with the markers around it: a call that is not formed as
// the syntax says, one that the stream's end cuts off, or an answer that only names the tag with
// which lists begin. Behind such text the next begin of a call or a list counts again. White space
// around calls is dropped. A list inside a thought begins where the family's models end a thought
// by calling, and ends the thought with its first call.
#include <algorithm>
#include <optional>

#include "text/output/parsers.h"

namespace hadal {
namespace {

class CallListParser final : public OutputParser {
 public:
  CallListParser(const CallSyntax& syntax, std::unique_ptr<TextParser> text)
      : syntax_(syntax), text_(std::move(text)) {}

  OutputDelta push(std::string_view piece) override {
    held_ += piece;
    return read(false);
  }

  OutputDelta finish() override {
    OutputDelta delta = read(true);
    delta.append(text_->finish());
    return delta;
  }

  [[nodiscard]] bool in_thought() const override { return text_->in_thought(); }

 private:
  /// Reads on until more text is needed. `over`: no more comes.
  OutputDelta read(bool over) {
    OutputDelta delta;
    while (place_ == Place::kText     ? text(over, delta)
           : place_ == Place::kInList ? call(over, delta)
                                      : stray(over, delta)) {
    }
    return delta;
  }

  /// Up to the next list; true if one begins.
  bool text(bool over, OutputDelta& delta) {
    const size_t begin = held_.find(syntax_.list_begin);
    const bool begins = begin != std::string::npos;
    give(begins ? before_newlines(begin) : sure(over, {syntax_.list_begin}), delta);
    if (!begins) return false;
    begin_list();
    if (!syntax_.ends_thought && text_->in_thought()) {
      give(0, delta);
      place_ = Place::kText;
    }
    return true;
  }

  /// A call, or the end of the list; true if either is there or will not come.
  bool call(bool over, OutputDelta& delta) {
    if (!reader_) reader_ = syntax_.make_reader(syntax_.call_begin);
    const Step found = reader_->read(held_);
    if (found == Step::kDone || (found == Step::kShort && !over)) tell(found == Step::kDone, delta);
    if (found == Step::kDone) {
      delta.append(text_->call_follows());
      delta.tool_calls.push_back(reader_->call());
      held_.erase(0, reader_->end());
      pending_begin_ = false;
      leave_call();
      return true;
    }
    Cursor in(held_);
    in.move(reader_->begin());
    const bool begun = reader_->begun();
    const Step ends = begun ? Step::kNever : in.take(syntax_.list_end);
    if (ends == Step::kDone) {
      leave_call();
      end_list(in.at(), pending_begin_, delta);
      return true;
    }
    if (std::max(found, ends) == Step::kShort && !over) return false;
    if (in.rest().empty() && !pending_begin_) held_.clear();
    place_ = Place::kStray;
    first_ = begun ? in.at() + 1 : 0;
    leave_call();
    return true;
  }

  /// What is new of the call that is being read.
  void tell(bool completes, OutputDelta& delta) {
    const ToolCall& call = reader_->call();
    if (call.name.empty() || (told_ == call.arguments.size() && !completes)) return;
    ToolCallPiece piece = {.completes = completes};
    if (!told_) {
      ++begun_calls_;
      piece.id = call.id;
      piece.name = call.name;
    }
    piece.index = begun_calls_ - 1;
    piece.arguments = call.arguments.substr(told_.value_or(0));
    told_ = call.arguments.size();
    delta.append({.call_pieces = {std::move(piece)}});
  }

  void leave_call() {
    reader_.reset();
    told_.reset();
  }

  /// Text in a list, up to the next marker; true if one is there.
  bool stray(bool over, OutputDelta& delta) {
    const size_t list = held_.find(syntax_.list_begin);
    const size_t begin = held_.find(syntax_.call_begin, first_);
    const size_t call_end = held_.find(syntax_.call_end);
    const size_t list_end = held_.find(syntax_.list_end);
    const size_t at = std::min({list, begin, call_end, list_end});
    if (at == std::string::npos) {
      const size_t bytes =
          sure(over, {syntax_.list_begin, syntax_.call_begin, syntax_.call_end, syntax_.list_end});
      if (bytes > first_ || over) {
        first_ = 0;
        give(bytes, delta);
      }
      return false;
    }
    place_ = Place::kInList;
    if (at == list_end) {
      end_list(at + syntax_.list_end.size(), true, delta);
    } else {
      give(at == list       ? before_newlines(at)
           : at == call_end ? at + syntax_.call_end.size()
                            : at,
           delta);
      if (at == list) begin_list();
    }
    return true;
  }

  /// `held_` begins with a list's begin, or newlines before it.
  void begin_list() {
    newlines_ = held_.find(syntax_.list_begin);
    held_.erase(0, newlines_ + syntax_.list_begin.size());
    place_ = Place::kInList;
    pending_begin_ = true;
  }

  /// Text goes on behind `bytes`, which are text themselves where anything of the list is.
  void end_list(size_t bytes, bool is_text, OutputDelta& delta) {
    is_text ? give(bytes, delta) : static_cast<void>(held_.erase(0, bytes));
    place_ = Place::kText;
  }

  /// The first bytes of what is held are text, and so is a begin that has become no call.
  void give(size_t bytes, OutputDelta& delta) {
    std::string given;
    if (pending_begin_) given = std::string(newlines_, '\n') + std::string(syntax_.list_begin);
    pending_begin_ = false;
    given.append(held_, 0, bytes);
    held_.erase(0, bytes);
    delta.append(text_->push(given));
  }

  /// Bytes that become no part of one of `markers`, nor of the newlines before a list.
  size_t sure(bool over, std::initializer_list<std::string_view> markers) const {
    if (over) return held_.size();
    size_t held = 0;
    for (const std::string_view marker : markers) held = std::max(held, held_back(held_, marker));
    return before_newlines(held_.size() - held);
  }

  size_t before_newlines(size_t end) const {
    while (syntax_.newlines_before && end > 0 && held_[end - 1] == '\n') --end;
    return end;
  }

  enum class Place {
    kText,    ///< in no list
    kInList,  ///< where a call may begin
    kStray,   ///< in what is no call
  };

  const CallSyntax& syntax_;
  std::unique_ptr<TextParser> text_;
  std::string held_;
  Place place_ = Place::kText;
  size_t newlines_ = 0;         ///< before the list's begin, not yet text
  bool pending_begin_ = false;  ///< the begin of the list has become neither a call nor text
  size_t first_ = 0;            ///< of kStray: the first byte at which a call may begin
  std::unique_ptr<CallReader> reader_;  ///< of kInList, from the first text on
  std::optional<size_t> told_;          ///< bytes of its arguments that pieces hold, if any is out
  size_t begun_calls_ = 0;              ///< by pieces
};

}  // namespace

std::unique_ptr<OutputParser> make_call_list_parser(const CallSyntax& syntax,
                                                    std::unique_ptr<TextParser> text) {
  return std::make_unique<CallListParser>(syntax, std::move(text));
}

}  // namespace hadal
