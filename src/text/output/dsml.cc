// Tool calls in DSML (text/chat/dsml.h), as DeepSeek-V3.2 and later write them behind a blank line.
//
// Values with string="true" are raw text up to the parameter's end tag: as in the reader that each
// checkpoint brings along (encoding/encoding_dsv32.py, …), the tags of calls and lists are text in
// them. Nothing is escaped, so that a value may even hold the end tag of a parameter: it is text
// where text follows and another such tag comes before the call's end. Other values must be JSON
// and are kept as they are. A parameter given twice, an unknown attribute or text between the tags
// make a call broken.
#include <algorithm>
#include <set>

#include "text/chat/dsml.h"
#include "text/chat/python_json.h"
#include "text/output/parsers.h"

namespace hadal {
namespace {

std::string json_string(std::string_view text) {
  return chat::python_json(chat::OrderedJson(std::string(text)));
}

/// What a call is read by.
struct Marks {
  explicit Marks(const chat::DsmlTags& tags)
      : invoke_end("</" + std::string(tags.invoke) + ">"),
        parameter("<" + std::string(tags.parameter) + " name=\""),
        parameter_end("</" + std::string(tags.parameter) + ">") {}
  std::string invoke_end, parameter, parameter_end;
};

class Reader final : public CallReader {
 public:
  Reader(std::string_view call_begin, const chat::DsmlTags& tags)
      : CallReader(call_begin), marks_(tags) {}

 private:
  using Stage = Step (Reader::*)();
  Step step() override { return (this->*stage_)(); }
  Step then(Step done, Stage next) {
    if (done == Step::kDone) stage_ = next;
    return done;
  }

  Step name() {
    std::string_view name;
    const Step done = in_.take_name("\">", name);
    if (done != Step::kDone) return done;
    call_.name = name;
    call_.arguments = "{";
    return then(done, &Reader::parameter);
  }

  /// A parameter, or the end of the call.
  Step parameter() {
    in_.skip_blanks();
    const Step end = in_.take(marks_.invoke_end);
    if (end != Step::kDone) return std::max(end, then(in_.take(marks_.parameter), &Reader::key));
    call_.arguments += '}';
    whole_ = true;
    return end;
  }

  Step key() {
    std::string_view key;
    const Step done = in_.take_until("\" string=\"", "\">", key);
    if (done != Step::kDone) return done;
    if (!keys_.emplace(key).second) return Step::kNever;
    call_.arguments += (keys_.size() == 1 ? "" : ", ") + json_string(key) + ": ";
    return then(done, &Reader::kind);
  }

  Step kind() {
    const Step raw = then(in_.take("true\">"), &Reader::text);
    if (raw == Step::kDone) {
      call_.arguments += '"';
      tag_in_text_ = false;
      return raw;
    }
    json_ = {};
    return std::max(raw, then(in_.take("false\">"), &Reader::json_begin));
  }

  /// Raw text, up to what may be its end tag.
  Step text() {
    const std::string_view rest = in_.rest();
    const size_t end = rest.find(marks_.parameter_end);
    if (tag_in_text_ && rest.substr(0, end).find(marks_.invoke_end) != std::string_view::npos)
      return Step::kNever;
    const bool there = end != std::string_view::npos;
    const size_t sure = there ? end : whole_characters(rest.substr(0, rest.size() - held(rest)));
    add_text(rest.substr(0, sure));
    in_.move(sure);
    if (!there) return Step::kShort;
    tag_ = in_.at();
    return then(in_.take(marks_.parameter_end), &Reader::behind_tag);
  }

  size_t held(std::string_view rest) const {
    const size_t parameter = held_back(rest, marks_.parameter_end);
    return tag_in_text_ ? std::max(parameter, held_back(rest, marks_.invoke_end)) : parameter;
  }

  /// What follows an end tag says whether it is one. If not, either another tag comes before the
  /// call's end or the call is broken: the tag is text of whatever may still become a call.
  Step behind_tag() {
    in_.skip_blanks();
    const Step ends = std::max(in_.look(marks_.parameter), in_.look(marks_.invoke_end));
    if (ends == Step::kShort) return ends;
    if (ends == Step::kDone) {
      call_.arguments += '"';
      return then(ends, &Reader::parameter);
    }
    add_text(in_.since(tag_));
    tag_in_text_ = true;
    return then(Step::kDone, &Reader::text);
  }

  void add_text(std::string_view text) {
    if (text.empty()) return;
    const std::string quoted = json_string(text);
    call_.arguments.append(quoted, 1, quoted.size() - 2);
  }

  Step json_begin() {
    call_.arguments += in_.skip_blanks();
    return then(in_.rest().empty() ? Step::kShort : Step::kDone, &Reader::json);
  }

  Step json() {
    std::string_view part;
    const Step done = in_.take_json(json_, part);
    call_.arguments += part;
    return then(done, &Reader::json_end);
  }

  Step json_end() {
    call_.arguments += in_.skip_blanks();
    return then(in_.take(marks_.parameter_end), &Reader::parameter);
  }

  Marks marks_;
  Stage stage_ = &Reader::name;
  std::set<std::string, std::less<>> keys_;
  JsonReader json_;
  size_t tag_ = 0;            ///< of behind_tag: where the tag stands
  bool tag_in_text_ = false;  ///< of text: an end tag of a parameter is part of it
};

template <const chat::DsmlTags& tags>
constexpr CallSyntax syntax(std::string_view list_begin, std::string_view list_end,
                            std::string_view call_begin, std::string_view call_end) {
  return {.list_begin = list_begin,
          .list_end = list_end,
          .call_begin = call_begin,
          .call_end = call_end,
          .newlines_before = true,
          .ends_thought = true,
          .make_reader = [](std::string_view begin) -> std::unique_ptr<CallReader> {
            return std::make_unique<Reader>(begin, tags);
          }};
}

}  // namespace

constexpr CallSyntax kDsmlV32Calls =
    syntax<chat::kDsmlV32>("<｜DSML｜function_calls>", "</｜DSML｜function_calls>",
                           "<｜DSML｜invoke name=\"", "</｜DSML｜invoke>");
constexpr CallSyntax kDsmlV4Calls =
    syntax<chat::kDsmlV4>("<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>",
                          "<｜DSML｜invoke name=\"", "</｜DSML｜invoke>");
constexpr CallSyntax kDsmlV41Calls = syntax<chat::kDsmlV41>(
    "<｜DSML｜ calls>", "</｜DSML｜ calls>", "<｜DSML｜ invoke name=\"", "</｜DSML｜ invoke>");

}  // namespace hadal
