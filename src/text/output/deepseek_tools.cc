// Tool calls as DeepSeek-V2.5, V3, R1 and R1-0528 write them, behind the content:
//
//   <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```<｜tool▁call▁end｜>
//   (newline, next call)…<｜tool▁calls▁end｜>
//
// and as V3.1 does, without type word, fence and newlines: NAME<｜tool▁sep｜>ARGUMENTS.
#include "text/output/parsers.h"

namespace hadal {
namespace {

constexpr std::string_view kCallBegin = "<｜tool▁call▁begin｜>";
constexpr std::string_view kCallEnd = "<｜tool▁call▁end｜>";
constexpr std::string_view kSeparator = "<｜tool▁sep｜>";

/// `fenced`: not as V3.1 writes.
template <bool fenced>
class Reader final : public CallReader {
 public:
  explicit Reader(std::string_view call_begin)
      : CallReader(call_begin), stage_(fenced ? &Reader::word : &Reader::name) {}

 private:
  using Stage = Step (Reader::*)();
  Step step() override { return (this->*stage_)(); }
  Step then(Step done, Stage next) {
    if (done == Step::kDone) stage_ = next;
    return done;
  }

  Step word() { return then(in_.take("function"), &Reader::separator); }
  Step separator() { return then(in_.take(kSeparator), &Reader::name); }

  Step name() {
    std::string_view name;
    const Step done = in_.take_name(fenced ? "\n```json\n" : kSeparator, name);
    call_.name = name;
    return then(done, &Reader::object);
  }

  /// Where the arguments begin.
  Step object() {
    in_.skip_blanks();
    return then(in_.look("{"), &Reader::arguments);
  }

  Step arguments() {
    std::string_view part;
    const Step done = in_.take_json(json_, part);
    call_.arguments += part;
    return then(done, fenced ? &Reader::fence : &Reader::last);
  }

  /// The fence's end, on a line of its own.
  Step fence() {
    const std::string_view blanks = in_.skip_blanks();
    if (!blanks.empty()) own_line_ = blanks.back() == '\n';
    const Step done = in_.take("```");
    return done == Step::kDone && !own_line_ ? Step::kNever : then(done, &Reader::last);
  }

  Step last() {
    in_.skip_blanks();
    const Step done = in_.take(kCallEnd);
    whole_ = done == Step::kDone;
    return done;
  }

  Stage stage_;
  JsonReader json_;
  bool own_line_ = false;  ///< the last blank behind the arguments is a line's end
};

template <bool fenced>
constexpr CallSyntax syntax() {
  return {.list_begin = "<｜tool▁calls▁begin｜>",
          .list_end = "<｜tool▁calls▁end｜>",
          .call_begin = kCallBegin,
          .call_end = kCallEnd,
          .make_reader = [](std::string_view begin) -> std::unique_ptr<CallReader> {
            return std::make_unique<Reader<fenced>>(begin);
          }};
}

}  // namespace

constexpr CallSyntax kDeepSeekCalls = syntax<true>();
constexpr CallSyntax kDeepSeekV31Calls = syntax<false>();

}  // namespace hadal
