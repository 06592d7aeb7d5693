#include "text/chat/deepseek_v4_turns.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "checkpoint/printable.h"
#include "text/chat/deepseek_marks.h"
#include "text/chat/python_json.h"

namespace hadal::chat {
namespace {

constexpr std::string_view kSystem = "<｜System｜>";

/// The API's names on V4.1's scale.
Result<int> parse_effort(const std::string& effort, const V4Style& style) {
  if (effort == "none" || effort == "minimal" || effort == "low") return 50;
  if (effort.empty() || effort == "medium" || effort == "high" || effort == "xhigh") return 75;
  if (effort == "max" || effort == "ultra") return 100;
  int number = 0;
  const char* end = effort.data() + effort.size();
  const auto parsed = std::from_chars(effort.data(), end, number);
  if (style.numeric_effort && parsed.ec == std::errc() && parsed.ptr == end && number >= 1 &&
      number <= 100)
    return number;
  return usage_error(fmt::format(
      "effort: {} is unknown to the chat format {}; known are none, minimal, low, medium, high, "
      "xhigh, max, ultra{}",
      quote(effort), style.format, style.numeric_effort ? " and the numbers 1 to 100" : ""));
}

/// name, description and parameters, in this order; other keys are left out.
std::string schema_of(const OrderedJson& function) {
  OrderedJson schema;
  schema["name"] = function["name"];
  const auto description = function.find("description");
  const bool described = description != function.end() && description->is_string();
  schema["description"] = described ? *description : OrderedJson("");
  const auto parameters = function.find("parameters");
  schema["parameters"] = parameters == function.end() ? OrderedJson::object() : *parameters;
  return python_json(schema);
}

Status write_tools(PromptBuilder& out, const std::string& tools_json, const DsmlTags& tags) {
  HADAL_TRY(const std::vector<OrderedJson> functions, parse_functions(tools_json));
  out.control(fmt::format(
      "\n\n## Tools\n\nYou have access to a set of tools to help answer the user's question. You "
      "can invoke tools by writing a \"<{calls}>\" block like the following:\n\n<{calls}>\n"
      "<{invoke} name=\"$TOOL_NAME\">\n<{parameter} name=\"$PARAMETER_NAME\" "
      "string=\"true|false\">$PARAMETER_VALUE</{parameter}>\n...\n</{invoke}>\n<{invoke} "
      "name=\"$TOOL_NAME2\">\n...\n</{invoke}>\n</{calls}>\n\nString parameters should be "
      "specified as is and set `string=\"true\"`. For all other types (numbers, booleans, arrays, "
      "objects), pass the value in JSON format and set `string=\"false\"`.\n\nIf thinking_mode is "
      "enabled (triggered by <think>), you MUST output your complete reasoning inside "
      "<think>...</think> BEFORE any tool calls or final response.\n\nOtherwise, output directly "
      "after </think> with tool calls or final response.\n\n### Available Tool Schemas\n\n",
      fmt::arg("calls", tags.calls), fmt::arg("invoke", tags.invoke),
      fmt::arg("parameter", tags.parameter)));
  for (const OrderedJson& function : functions) out.plain(schema_of(function)).control("\n");
  out.control(
      "\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke "
      "tool calls.\n");
  return {};
}

/// The order in which messages are written: results that stand together, in the order of the calls
/// of the answer before them; those of unknown calls keep their places. Left out are empty system
/// messages, and all of them where they have gone to the front.
std::vector<size_t> order_of(const std::vector<ChatMessage>& messages, bool system_turns) {
  std::vector<size_t> order;
  std::vector<size_t> places;                      // in `order`, of results that belong to a call
  std::vector<std::pair<size_t, size_t>> results;  // those: number of the call, of the message
  const auto sort = [&] {
    std::sort(results.begin(), results.end());
    for (size_t i = 0; i < places.size(); ++i) order[places[i]] = results[i].second;
    places.clear();
    results.clear();
  };
  const std::vector<ToolCall> none;
  const std::vector<ToolCall>* calls = &none;
  for (size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    if (message.role == "system" && (message.content.empty() || !system_turns)) continue;
    if (message.role != "tool" && message.role != "user") sort();
    if (message.role == "assistant") calls = &message.tool_calls;
    const auto call = std::find_if(calls->begin(), calls->end(),
                                   [&](const ToolCall& c) { return c.id == message.tool_call_id; });
    if (message.role == "tool" && call != calls->end()) {
      places.push_back(order.size());
      results.emplace_back(call - calls->begin(), i);
    }
    order.push_back(i);
  }
  sort();
  return order;
}

class Turns {
 public:
  Turns(const V4Style& style, PromptBuilder& out, bool thinking, bool keeps_thoughts)
      : style_(style), out_(out), thinking_(thinking), keeps_thoughts_(keeps_thoughts) {}

  Status write(const std::vector<ChatMessage>& messages, size_t index) {
    const ChatMessage& message = messages[index];
    if (message.role == "user" || message.role == "tool") {
      user_part(message);
      return {};
    }
    last_part_ = Part::kNone;
    if (message.role == "assistant") return answer(messages, index);
    out_.control(message.role == "system" ? kSystem : "<｜latest_reminder｜>");
    out_.plain(message.content);
    return {};
  }

  /// The last answer has begun; true if the model goes on inside its thought.
  bool prefix(const ChatMessage& message) {
    const bool in_thought = thinking_ && message.content.empty();
    out_.control(kAssistant);
    if (thinking_) out_.control(kThink).plain(message.reasoning);
    if (!in_thought) out_.control(kEndThink).plain(message.content);
    return in_thought;
  }

 private:
  enum class Part { kNone, kEmpty, kText, kResult };

  void user_part(const ChatMessage& message) {
    const bool result = message.role == "tool";
    const bool empty = !result && message.content.empty();
    const bool opens = last_part_ == Part::kNone ||
                       (result && last_part_ != Part::kResult && !style_.system_turns);
    const bool separate =
        style_.system_turns || last_part_ == Part::kResult || (last_part_ == Part::kText && !empty);
    if (opens)
      out_.control(kUser);
    else if (separate)
      out_.control("\n\n");
    if (result) out_.control("<tool_result>");
    out_.plain(message.content);
    if (result) out_.control("</tool_result>");
    if (!empty || last_part_ != Part::kText)
      last_part_ = result ? Part::kResult : empty ? Part::kEmpty : Part::kText;
  }

  Status answer(const std::vector<ChatMessage>& messages, size_t index) {
    out_.control(kAssistant);
    if (keeps_thoughts_) out_.control(kThink).plain(messages[index].reasoning);
    out_.control(kEndThink).plain(messages[index].content);
    HADAL_TRY(write_dsml_calls(out_, messages, index, style_.tags));
    out_.control(kEos);
    return {};
  }

  const V4Style& style_;
  PromptBuilder& out_;
  bool thinking_, keeps_thoughts_;
  Part last_part_ = Part::kNone;  ///< of the user turn that is open, kNone if none is
};

}  // namespace

Result<Prompt> render_deepseek_v4_turns(const ChatRequest& request, const V4Style& style) {
  HADAL_TRY(
      check_request(request, {.format = style.format,
                              .roles = {"system", "user", "assistant", "tool", "latest_reminder"},
                              .tools = true,
                              .tool_calls = true,
                              .may_think = true,
                              .prefix = true,
                              .effort = true,
                              .response_format = true}));
  HADAL_TRY(const int effort, parse_effort(request.effort, style));
  const std::vector<ChatMessage>& messages = request.messages;
  const bool thinking = request.thinking.value_or(request.effort != "none");
  const bool tools = !request.tools_json.empty();
  const bool shaped = request.response_format != ResponseFormat::kText;
  PromptBuilder out;
  out.control(kBos);
  const std::vector<size_t> order = order_of(messages, style.system_turns);
  const bool own_system = !order.empty() && messages[order[0]].role == "system";
  if (style.system_turns && (own_system || thinking || tools || shaped)) out.control(kSystem);
  if (thinking) out.control(style.effort_text(effort));
  if (own_system) out.plain(messages[order[0]].content);
  if (!style.system_turns) out.plain(joined_systems(messages, true));
  if (tools) HADAL_TRY(write_tools(out, request.tools_json, style.tags));
  write_response_format(out, request, style.system_turns);
  Turns turns(style, out, thinking, thinking && tools);
  for (size_t i = own_system ? 1 : 0; i < order.size(); ++i) {
    const ChatMessage& message = messages[order[i]];
    if (message.prefix) return out.finish(turns.prefix(message), true);
    HADAL_TRY(turns.write(messages, order[i]));
  }
  if (!request.add_generation_prompt) return out.finish(false);
  out.control(kAssistant).control(thinking ? kThink : kEndThink);
  return out.finish(thinking);
}

}  // namespace hadal::chat
