// DeepSeek-V3.1 and V3.1-Terminus: hybrid thinking, tool calls without type word and fence.
//
// Sources: the official template (tokenizer_config.json) for the turns, the model card for how
// tools are declared (the template itself cannot). Each answer stands behind <｜Assistant｜> and
// </think>, its thought left out; only the last one is opened by <think>, if thinking is asked for.
// After tool results the model goes on without a marker.
#include "text/chat/deepseek_marks.h"
#include "text/chat/python_json.h"

namespace hadal::chat {
namespace {

Status write_tools(PromptBuilder& out, const std::string& tools_json) {
  HADAL_TRY(const std::vector<OrderedJson> functions, parse_functions(tools_json));
  out.control("\n\n## Tools\nYou have access to the following tools:\n");
  for (const OrderedJson& function : functions) {
    const auto description = function.find("description");
    const bool described = description != function.end() && description->is_string();
    const auto parameters = function.find("parameters");
    out.control("\n### ").plain(function["name"].get<std::string>()).control("\nDescription: ");
    out.plain(described ? description->get<std::string>() : "").control("\n\nParameters: ");
    out.plain(parameters == function.end() ? "{}" : python_json(*parameters)).control("\n");
  }
  out.control(
      "\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n<｜tool▁calls▁begin｜>"
      "<｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments<｜tool▁call▁end｜>"
      "{additional_tool_calls}<｜tool▁calls▁end｜>\n\nWhere:\n- `tool_call_name` must be an exact "
      "match to one of the available tools\n- `tool_call_arguments` must be valid JSON that "
      "strictly follows the tool's Parameters Schema\n- For multiple tool calls, chain them "
      "directly without separators or spaces");
  return {};
}

/// As the template has it: cut at the first </think>, and whole after tool results.
std::string_view answer_text(std::string_view content, bool after_results) {
  const size_t end = after_results ? std::string_view::npos : content.find(kEndThink);
  return end == std::string_view::npos ? content : content.substr(end + kEndThink.size());
}

void write_calls(PromptBuilder& out, const std::vector<ToolCall>& calls) {
  out.control("<｜tool▁calls▁begin｜>");
  for (const ToolCall& call : calls) {
    out.control("<｜tool▁call▁begin｜>").plain(call.name).control("<｜tool▁sep｜>");
    out.plain(call.arguments).control("<｜tool▁call▁end｜>");
  }
  out.control("<｜tool▁calls▁end｜>");
}

/// The prefix; true if the model goes on inside its thought. Without reasoning, the template has
/// the content begin the thought.
bool write_prefix(PromptBuilder& out, const ChatMessage& message, bool thinking) {
  const bool has_thought = thinking && !message.reasoning.empty();
  const bool ended = has_thought && !message.content.empty();
  if (has_thought) out.plain(message.reasoning);
  if (ended) out.control(kEndThink);
  out.plain(message.content);
  return thinking && !ended;
}

}  // namespace

bool recognises_deepseek_v31(std::string_view chat_template) {
  return contains_all(chat_template, {"not thinking", "'<｜Assistant｜></think>'",
                                      "+ '<｜tool▁sep｜>' + tool['function']['arguments']"}) &&
         !contains(chat_template, "｜DSML｜");
}

Result<Prompt> render_deepseek_v31(const ChatRequest& request, const Tokenizer* /*tokenizer*/) {
  HADAL_TRY(check_request(request, {.format = "deepseek-v3.1",
                                    .roles = {"system", "user", "assistant", "tool"},
                                    .tools = true,
                                    .tool_calls = true,
                                    .may_think = true,
                                    .prefix = true}));
  const bool thinking = request.thinking.value_or(false);
  PromptBuilder out;
  out.control(kBos).plain(joined_systems(request.messages));
  if (!request.tools_json.empty()) HADAL_TRY(write_tools(out, request.tools_json));
  bool after_user = false, after_results = false;
  for (const ChatMessage& message : request.messages) {
    if (message.role == "system") continue;
    if (message.role == "user") out.control(kUser).plain(message.content);
    if (message.role == "tool")
      out.control("<｜tool▁output▁begin｜>")
          .plain(message.content)
          .control("<｜tool▁output▁end｜>");
    if (message.role == "assistant") {
      const bool opens = message.prefix && thinking;
      if (after_user) out.control(kAssistant).control(opens ? kThink : kEndThink);
      if (message.prefix) return out.finish(write_prefix(out, message, opens && after_user), true);
      const bool calls = !message.tool_calls.empty();
      out.plain(calls ? message.content : answer_text(message.content, after_results));
      if (calls) write_calls(out, message.tool_calls);
      out.control(kEos);
    }
    after_user = message.role == "user";
    after_results = message.role == "tool";
  }
  const bool begin = request.add_generation_prompt && after_user;
  if (begin) out.control(kAssistant).control(thinking ? kThink : kEndThink);
  return out.finish(begin && thinking);
}

}  // namespace hadal::chat
