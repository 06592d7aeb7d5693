#include "text/chat/format.h"

#include <algorithm>
#include <array>

#include "checkpoint/printable.h"

namespace hadal::chat {
namespace {

/// White space as str.isspace() has it, each in UTF-8.
constexpr std::array<std::string_view, 29> kSpaces = {
    "\t",     "\n",     "\v",     "\f",     "\r",     "\x1c",   "\x1d",   "\x1e",
    "\x1f",   " ",      "\u0085", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002",
    "\u2003", "\u2004", "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200a",
    "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};

std::string list(std::initializer_list<std::string_view> names) {
  std::string text;
  for (const std::string_view name : names) text += (text.empty() ? "" : ", ") + std::string(name);
  return text;
}

Status check_message(const ChatMessage& message, size_t index, bool is_last, const Abilities& can) {
  const std::string where = "messages[" + std::to_string(index) + "]";
  if (std::find(can.roles.begin(), can.roles.end(), message.role) == can.roles.end())
    return usage_error(where + ".role: the chat format " + std::string(can.format) +
                       " has no role " + quote(message.role) + "; it has " + list(can.roles));
  if (!message.tool_calls.empty() && message.role != "assistant")
    return usage_error(
        where + ".tool_calls: only an assistant's message may have them, this one's role is " +
        quote(message.role));
  if (!message.tool_calls.empty() && !can.tool_calls)
    return usage_error(where + ".tool_calls: the chat format " + std::string(can.format) +
                       " has no tool calls");
  if (!message.prefix) return {};
  if (!can.prefix)
    return usage_error(where + ".prefix: the chat format " + std::string(can.format) +
                       " does not go on with an answer that has begun");
  if (message.role != "assistant" || !is_last)
    return usage_error(where +
                       ".prefix: only the last message may have it, and only an assistant's");
  if (!message.tool_calls.empty())
    return usage_error(where + ".prefix: a message with tool_calls cannot go on");
  return {};
}

}  // namespace

PromptBuilder& PromptBuilder::add(std::string_view text, bool control) {
  if (text.empty()) return *this;
  if (prompt_.pieces.empty() || prompt_.pieces.back().control != control)
    prompt_.pieces.push_back({.text = std::string(text), .control = control});
  else
    prompt_.pieces.back().text += text;
  return *this;
}

Status check_request(const ChatRequest& request, const Abilities& can) {
  const std::string format(can.format);
  if (request.messages.empty())
    return usage_error("messages: the list is empty; give at least one message");
  if (!request.tools_json.empty() && !can.tools)
    return usage_error(
        "tools: the chat format " + format +
        " has no way to declare tools; leave them out, or describe them in the system message");
  if (request.thinking == true && !can.may_think)
    return usage_error("thinking: the chat format " + format + " does not think");
  if (request.thinking == false && !can.may_not_think)
    return usage_error("thinking: the chat format " + format +
                       " always thinks; leave it unset or true");
  if (!request.effort.empty() && !can.effort)
    return usage_error("effort: the chat format " + format + " knows no effort, " +
                       quote(request.effort) + " was asked for");
  if (request.response_format != ResponseFormat::kText && !can.response_format &&
      !request.shape_is_held)
    return usage_error("response_format: the chat format " + format +
                       " has no words for it; ask for the shape in a message");
  for (size_t i = 0; i < request.messages.size(); ++i)
    HADAL_TRY(check_message(request.messages[i], i, i + 1 == request.messages.size(), can));
  return {};
}

bool contains_all(std::string_view text, std::initializer_list<std::string_view> marks) {
  return std::all_of(marks.begin(), marks.end(),
                     [text](std::string_view mark) { return contains(text, mark); });
}

bool contains_any(std::string_view text, std::initializer_list<std::string_view> marks) {
  return std::any_of(marks.begin(), marks.end(),
                     [text](std::string_view mark) { return contains(text, mark); });
}

std::string_view strip(std::string_view text) {
  const auto starts = [&text](std::string_view space) { return text.starts_with(space); };
  const auto ends = [&text](std::string_view space) { return text.ends_with(space); };
  for (auto it = kSpaces.begin();
       (it = std::find_if(kSpaces.begin(), kSpaces.end(), starts)) != kSpaces.end();)
    text.remove_prefix(it->size());
  for (auto it = kSpaces.begin();
       (it = std::find_if(kSpaces.begin(), kSpaces.end(), ends)) != kSpaces.end();)
    text.remove_suffix(it->size());
  return text;
}

std::string_view strip_newlines_left(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
  return text;
}

std::string_view strip_newlines_right(std::string_view text) {
  const size_t last = text.find_last_not_of('\n');
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

std::string_view after_last(std::string_view text, std::string_view mark) {
  const size_t at = text.rfind(mark);
  return at == std::string_view::npos ? text : text.substr(at + mark.size());
}

}  // namespace hadal::chat
