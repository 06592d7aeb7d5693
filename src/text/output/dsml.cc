// Tool calls in DSML (text/chat/dsml.h), as DeepSeek-V3.2 and later write them behind a blank line.
//
// Values with string="true" are raw text up to the parameter's end tag: as in the reader that each
// checkpoint brings along (encoding/encoding_dsv32.py, …), the tags of calls and lists are text in
// them. Nothing is escaped, so that a value may even hold the end tag of a parameter: it is text
// where text follows and another such tag comes before the call's end. Other values must be JSON
// and are kept as they are. A parameter given twice, an unknown attribute or text between the tags
// make a call broken.
#include <algorithm>
#include <vector>

#include "text/chat/dsml.h"
#include "text/chat/python_json.h"
#include "text/output/parsers.h"

namespace hadal {
namespace {

std::string json_string(std::string_view text) {
  return chat::python_json(chat::OrderedJson(std::string(text)));
}

/// What the scan of a call looks for.
struct Marks {
  explicit Marks(const chat::DsmlTags& tags)
      : invoke("<" + std::string(tags.invoke) + " name=\""),
        invoke_end("</" + std::string(tags.invoke) + ">"),
        parameter("<" + std::string(tags.parameter) + " name=\""),
        parameter_end("</" + std::string(tags.parameter) + ">") {}
  std::string invoke, invoke_end, parameter, parameter_end;
};

/// Raw text and its end tag.
std::optional<std::string_view> take_text(Cursor& in, const Marks& marks) {
  const std::string_view text = in.rest();
  size_t from = 0;
  for (;;) {
    const size_t end = text.find(marks.parameter_end, from);
    if (end == std::string_view::npos) {
      in.fail_for_now(marks.parameter_end, from);
      return std::nullopt;
    }
    const size_t behind = end + marks.parameter_end.size();
    Cursor next(text.substr(behind));
    next.skip_blanks();
    if (next.take(marks.parameter) || next.take(marks.invoke_end)) {
      in.move(behind);
      return text.substr(0, end);
    }
    const size_t another = text.find(marks.parameter_end, behind);
    const size_t stop = text.find(marks.invoke_end, behind);
    const bool open = next.failure().kind == CallScan::Kind::kIncomplete || another == stop;
    if (open) in.fail_for_now();
    if (open || stop < another) return std::nullopt;
    from = behind;
  }
}

/// "KEY": VALUE of a parameter, and its key.
struct Parameter {
  std::string_view key;
  std::string json;
};
std::optional<Parameter> take_parameter(Cursor& in, const Marks& marks) {
  if (!in.take(marks.parameter)) return std::nullopt;
  const auto key = in.take_until("\" string=\"", "\">");
  if (!key) return std::nullopt;
  if (in.take("true\">")) {
    const auto value = take_text(in, marks);
    if (!value) return std::nullopt;
    return Parameter{*key, json_string(*key) + ": " + json_string(*value)};
  }
  if (!in.take("false\">")) return std::nullopt;
  const std::string_view begin = in.rest();
  in.skip_blanks();
  if (!in.take_json(marks.parameter_end)) return std::nullopt;
  in.skip_blanks();
  const std::string_view value = begin.substr(0, begin.size() - in.rest().size());
  if (!in.take(marks.parameter_end)) return std::nullopt;
  return Parameter{*key, json_string(*key) + ": " + std::string(value)};
}

CallScan scan_invoke(std::string_view text, const chat::DsmlTags& tags) {
  const Marks marks(tags);
  Cursor in(text);
  in.skip_blanks();
  if (!in.take(marks.invoke)) return in.failure();
  const auto name = in.take_name("\">");
  if (!name) return in.failure();
  std::string arguments;
  std::vector<std::string_view> keys;
  for (;;) {
    in.skip_blanks();
    if (in.take(marks.invoke_end)) break;
    const std::optional<Parameter> parameter = take_parameter(in, marks);
    if (!parameter) return in.failure();
    if (std::find(keys.begin(), keys.end(), parameter->key) != keys.end()) return {};
    arguments += (keys.empty() ? "" : ", ") + parameter->json;
    keys.push_back(parameter->key);
  }
  return {.kind = CallScan::Kind::kCall,
          .bytes = in.at(),
          .call = {.name = std::string(*name), .arguments = "{" + arguments + "}"}};
}

/// `tags`: those that scan_invoke reads.
template <const chat::DsmlTags& tags>
constexpr CallSyntax syntax(std::string_view list_begin, std::string_view list_end,
                            std::string_view call_begin, std::string_view call_end) {
  return {.list_begin = list_begin,
          .list_end = list_end,
          .call_begin = call_begin,
          .call_end = call_end,
          .newlines_before = true,
          .ends_thought = true,
          .scan = [](std::string_view text) { return scan_invoke(text, tags); }};
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
