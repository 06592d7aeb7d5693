// ChatML: <|im_start|>role\n…<|im_end|>\n. SmolLM2, Qwen2 and Qwen2.5, DeepSeek's small siblings
// trained on them.
//
// A default system prompt, used where the first message is no system message, and tools (Qwen2.5)
// are read off the template.
#include <nlohmann/json.hpp>

#include "text/chat/format.h"
#include "text/chat/python_json.h"
#include "text/chat/qwen_tools.h"

namespace hadal::chat {
namespace {

/// Template text with what does not matter taken out: white space, \n, trimming dashes, kinds of
/// quotes.
std::string skeleton(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == ' ' || c == '\n' || c == '\r' || c == '\t') continue;
    if (c == '\\' && text.substr(i).starts_with("\\n")) {
      ++i;
      continue;
    }
    if (c == '-' && (out.ends_with("{%") || out.ends_with("{{") ||
                     text.substr(i + 1).starts_with("%}") || text.substr(i + 1).starts_with("}}")))
      continue;
    out += c == '"' ? '\'' : c;
  }
  const auto replace_all = [&out](std::string_view from, std::string_view to) {
    for (size_t at = 0; (at = out.find(from, at)) != std::string::npos; at += to.size())
      out.replace(at, from.size(), to);
  };
  replace_all("+''", "");
  replace_all("message.role", "message['role']");
  replace_all("message.content", "message['content']");
  return out;
}

/// The literal between '<|im_start|>system\n and <|im_end|>, if the template has one; with Jinja's
/// escapes resolved.
std::optional<std::string> default_system(std::string_view text) {
  constexpr std::string_view kOpen = "<|im_start|>system";
  constexpr std::string_view kClose = "<|im_end|>";
  for (size_t at = 0; (at = text.find(kOpen, at)) != std::string_view::npos;) {
    at += kOpen.size();
    std::string_view rest = text.substr(at);
    if (rest.starts_with("\\n"))
      rest.remove_prefix(2);
    else if (rest.starts_with("\n"))
      rest.remove_prefix(1);
    else
      continue;
    const size_t end = rest.find(kClose);
    if (end == std::string_view::npos) break;
    std::string literal;
    bool whole = true;
    for (size_t i = 0; i < end && whole; ++i) {
      whole = rest[i] != '\'' && rest[i] != '"' && rest[i] != '{' && rest[i] != '}';
      if (rest[i] == '\\' && i + 1 < end)
        literal += rest[++i] == 'n' ? '\n' : rest[i];
      else
        literal += rest[i];
    }
    if (whole && !literal.empty()) return literal;
  }
  return std::nullopt;
}

bool has_qwen25_tools(std::string_view text) {
  return has_qwen_tools(text) && contains(text, "messages[0]['content']") &&
         !contains_any(text, {"<think>", "reasoning_content"});
}

/// Skeletons of templates without tools; SYSTEM stands for the default system prompt.
constexpr std::string_view kTurn =
    "{{'<|im_start|>'+message['role']+message['content']+'<|im_end|>'}}";
constexpr std::string_view kTail =
    "{%endfor%}{%ifadd_generation_prompt%}{{'<|im_start|>assistant'}}{%endif%}";

void turn(PromptBuilder& out, std::string_view role, std::string_view content) {
  out.control("<|im_start|>" + std::string(role) + "\n").plain(content).control("<|im_end|>\n");
}

/// Qwen2.5's calls of an assistant's turn.
Status tool_turn(PromptBuilder& out, const ChatMessage& message, const std::string& where) {
  out.control("<|im_start|>assistant");
  if (!message.content.empty()) out.control("\n").plain(message.content);
  for (size_t i = 0; i < message.tool_calls.size(); ++i) {
    const ToolCall& call = message.tool_calls[i];
    HADAL_TRY(const std::string arguments,
              reformat_arguments(call, where + ".tool_calls[" + std::to_string(i) + "]"));
    out.control("\n");
    write_qwen_call(out, call.name, arguments);
  }
  out.control("<|im_end|>\n");
  return {};
}

}  // namespace

bool recognises_chatml(std::string_view chat_template) {
  if (has_qwen25_tools(chat_template)) return true;
  std::string text = skeleton(chat_template);
  // An optional default system prompt in front of the turn, as SmolLM2 and Qwen2 have it.
  const std::string loop = "{%formessageinmessages%}";
  if (!text.starts_with(loop)) return false;
  constexpr std::string_view kDefault =
      "{%ifloop.firstandmessages[0]['role']!='system'%}{{'<|im_start|>system";
  constexpr std::string_view kDefaultEnd = "<|im_end|>'}}{%endif%}";
  if (const std::string_view rest = std::string_view(text).substr(loop.size());
      rest.starts_with(kDefault)) {
    const size_t end = rest.find(kDefaultEnd);
    if (end == std::string_view::npos || !default_system(chat_template)) return false;
    text.erase(loop.size(), end + kDefaultEnd.size());
  }
  return text == loop + std::string(kTurn) + std::string(kTail);
}

Result<Prompt> render_chatml(const ChatRequest& request, const Tokenizer* /*tokenizer*/) {
  const bool tools = has_qwen25_tools(request.chat_template);
  if (tools) {
    HADAL_TRY(check_request(request, {.format = "chatml",
                                      .roles = {"system", "user", "assistant", "tool"},
                                      .tools = true,
                                      .tool_calls = true,
                                      .prefix = true}));
  } else {
    HADAL_TRY(check_request(
        request, {.format = "chatml", .roles = {"system", "user", "assistant"}, .prefix = true}));
  }
  PromptBuilder out;
  const std::vector<ChatMessage>& messages = request.messages;
  const bool own_system = messages[0].role == "system";
  const std::string usual = default_system(request.chat_template).value_or("");
  if (!request.tools_json.empty()) {
    out.control("<|im_start|>system\n");
    if (own_system)
      out.plain(messages[0].content);
    else
      out.control(usual);
    out.control("\n\n");
    HADAL_TRY(write_qwen_tools(out, request));
    out.control("<|im_end|>\n");
  } else if (own_system) {
    turn(out, "system", messages[0].content);
  } else if (!usual.empty()) {
    out.control("<|im_start|>system\n" + usual + "<|im_end|>\n");
  }
  for (size_t i = own_system ? 1 : 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    if (message.role == "tool") {
      write_qwen_result(out, messages, i);
    } else if (!message.tool_calls.empty()) {
      HADAL_TRY(tool_turn(out, message, "messages[" + std::to_string(i) + "]"));
    } else if (message.prefix) {
      out.control("<|im_start|>assistant\n").plain(message.content);
      return out.finish(false, true);
    } else {
      turn(out, message.role, message.content);
    }
  }
  if (request.add_generation_prompt) out.control("<|im_start|>assistant\n");
  return out.finish(false);
}

}  // namespace hadal::chat
