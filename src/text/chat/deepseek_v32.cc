// DeepSeek-V3.2: hybrid thinking, DSML calls in <｜DSML｜function_calls>.
//
// Source: encoding/encoding_dsv32.py of the checkpoint, which has no template. <｜Assistant｜>
// follows each user message at once, then <think> behind the last one if the model shall think, and
// </think> behind the others. Thoughts stand only in what follows the last user message, where the
// model calls tools and thinks on. The `developer` role (search agents) is left out.
#include "text/chat/deepseek_marks.h"
#include "text/chat/dsml.h"
#include "text/chat/python_json.h"

namespace hadal::chat {
namespace {

constexpr std::string_view kTools =
    "\n\n## Tools\n\nYou have access to a set of tools you can use to answer the user's "
    "question.\nYou can invoke functions by writing a \"<｜DSML｜function_calls>\" block like the "
    "following as part of your reply to the user:\n<｜DSML｜function_calls>\n<｜DSML｜invoke "
    "name=\"$FUNCTION_NAME\">\n<｜DSML｜parameter name=\"$PARAMETER_NAME\" "
    "string=\"true|false\">$PARAMETER_VALUE</｜DSML｜parameter>\n...\n</｜DSML｜invoke>\n"
    "<｜DSML｜invoke name=\"$FUNCTION_NAME2\">\n...\n</｜DSML｜invoke>\n"
    "</｜DSML｜function_calls>\n\nString and scalar parameters should be specified as is without "
    "any escaping or quotes, while lists and objects should use JSON format. The \"string\" "
    "attribute should be set to \"true\" for string type parameters and \"false\" for other types "
    "(numbers, booleans, arrays, objects).\n\nIf the thinking_mode is enabled, then after function "
    "results you should strongly consider outputting a thinking block. Here is an example:\n\n"
    "<｜DSML｜function_calls>\n...\n</｜DSML｜function_calls>\n\n<function_results>\n...\n"
    "</function_results>\n\n<think>...thinking about results</think>\n\nHere are the functions "
    "available in JSONSchema format:\n<functions>\n";

Status write_tools(PromptBuilder& out, const std::string& tools_json) {
  HADAL_TRY(const std::vector<OrderedJson> functions, parse_functions(tools_json));
  out.control(kTools);
  for (const OrderedJson& function : functions) out.plain(python_json(function)).control("\n");
  out.control("</functions>\n");
  return {};
}

class Turns {
 public:
  Turns(const ChatRequest& request, PromptBuilder& out)
      : messages_(request.messages), out_(out), thinking_(request.thinking.value_or(true)) {
    for (size_t i = 0; i < messages_.size(); ++i)
      if (is_role(i, "user")) last_user_ = i + 1;
  }

  Status write(size_t index, bool asks) {
    const ChatMessage& message = messages_[index];
    opened_ = false;
    if (message.role == "system") out_.plain(message.content);
    if (message.role == "user") out_.control(kUser).plain(message.content);
    if (message.role == "user" && asks) open(index, kAssistant);
    if (message.role == "tool") result(index);
    if (message.role == "tool" && !is_role(index + 1, "tool") && asks) open(index, "\n\n");
    if (message.role == "assistant") HADAL_TRY(answer(index));
    return {};
  }

  Prompt finish() { return out_.finish(opened_, messages_.back().prefix); }

 private:
  [[nodiscard]] bool is_role(size_t index, std::string_view role) const {
    return index < messages_.size() && messages_[index].role == role;
  }

  void open(size_t index, std::string_view before) {
    opened_ = thinking_ && index + 1 >= last_user_;
    out_.control(before).control(opened_ ? kThink : kEndThink);
  }

  /// The results of one round stand in one block.
  void result(size_t index) {
    if (index == 0 || !is_role(index - 1, "tool")) out_.control("\n\n<function_results>");
    out_.control("\n<result>").plain(messages_[index].content).control("</result>");
    if (!is_role(index + 1, "tool")) out_.control("\n</function_results>");
  }

  Status answer(size_t index) {
    const ChatMessage& message = messages_[index];
    const bool thinks = thinking_ && index >= last_user_;
    opened_ = thinks && message.prefix && message.content.empty();
    if (thinks) out_.plain(message.reasoning);
    if (thinks && !opened_) out_.control(kEndThink);
    out_.plain(message.content);
    HADAL_TRY(write_dsml_calls(out_, messages_, index, kDsmlV32));
    if (!message.prefix) out_.control(kEos);
    return {};
  }

  const std::vector<ChatMessage>& messages_;
  PromptBuilder& out_;
  bool thinking_;
  size_t last_user_ = 0;  ///< its index + 1, 0 if there is none
  bool opened_ = false;   ///< what was written last ends inside a thought
};

}  // namespace

bool recognises_deepseek_v32(std::string_view chat_template) {
  return contains_all(chat_template, {"｜DSML｜", "function_calls"});
}

Result<Prompt> render_deepseek_v32(const ChatRequest& request, const Tokenizer* /*tokenizer*/) {
  HADAL_TRY(check_request(request, {.format = "deepseek-v3.2",
                                    .roles = {"system", "user", "assistant", "tool"},
                                    .tools = true,
                                    .tool_calls = true,
                                    .may_think = true,
                                    .prefix = true,
                                    .response_format = true}));
  const std::vector<ChatMessage>& messages = request.messages;
  PromptBuilder out;
  out.control(kBos);
  const size_t begin = messages[0].role == "system" ? 1 : 0;
  if (begin == 1) out.plain(messages[0].content);
  if (!request.tools_json.empty()) HADAL_TRY(write_tools(out, request.tools_json));
  write_response_format(out, request, true);
  Turns turns(request, out);
  for (size_t i = begin; i < messages.size(); ++i)
    HADAL_TRY(turns.write(i, i + 1 < messages.size() || request.add_generation_prompt));
  return turns.finish();
}

}  // namespace hadal::chat
