#include "text/chat/deepseek_turns.h"

namespace hadal::chat {
namespace {

constexpr std::string_view kBos = "<｜begin▁of▁sentence｜>";
constexpr std::string_view kEos = "<｜end▁of▁sentence｜>";
constexpr std::string_view kUser = "<｜User｜>";
constexpr std::string_view kAssistant = "<｜Assistant｜>";

/// Renders turn by turn, and knows which tool results are still open.
class Turns {
 public:
  Turns(const DeepSeekStyle& style, PromptBuilder& out) : style_(style), out_(out) {}

  void system(const std::vector<ChatMessage>& messages) {
    std::string text;
    bool first = true;
    for (const ChatMessage& message : messages) {
      if (message.role != "system") continue;
      if (!style_.joins_systems)
        text.clear();
      else if (!first)
        text += "\n\n";
      text += message.content;
      first = false;
    }
    out_.control(kBos).plain(text);
  }

  void turn(const ChatMessage& message) {
    if (message.role == "user") user(message);
    if (message.role == "tool") tool_result(message);
    if (message.role == "assistant") message.tool_calls.empty() ? answer(message) : calls(message);
  }

  Prompt finish(bool add_generation_prompt) {
    if (in_results_) out_.control("<｜tool▁outputs▁end｜>");
    // After tool results, and where <｜Assistant｜> already stands, the model simply goes on.
    const bool begin =
        add_generation_prompt && !in_results_ && !(style_.assistant_after_user && after_user_);
    if (begin) out_.control(kAssistant);
    if (begin && style_.opens_thought) out_.control("<think>\n");
    return out_.finish(begin && style_.opens_thought);
  }

 private:
  void user(const ChatMessage& message) {
    in_results_ = false;
    after_user_ = true;
    out_.control(kUser).plain(message.content);
    if (style_.assistant_after_user) out_.control(kAssistant);
  }

  void answer(const ChatMessage& message) {
    std::string_view content = message.content;
    if (in_results_) {
      out_.control("<｜tool▁outputs▁end｜>");
      // The older templates leave an answer to tool results as it is; 0528 cuts its thought like
      // any other.
      if (style_.cuts_thoughts && style_.assistant_after_user)
        content = after_last(content, "</think>");
    } else {
      if (!style_.assistant_after_user) out_.control(kAssistant);
      if (style_.cuts_thoughts) content = after_last(content, "</think>");
    }
    out_.plain(content).control(kEos);
    in_results_ = after_user_ = false;
  }

  void calls(const ChatMessage& message) {
    if (in_results_) out_.control("<｜tool▁outputs▁end｜>");
    if (!in_results_ && !style_.assistant_after_user) out_.control(kAssistant);
    const bool cut = style_.cuts_thoughts && style_.assistant_after_user;
    out_.plain(cut ? after_last(message.content, "</think>") : message.content);
    out_.control("<｜tool▁calls▁begin｜>");
    for (size_t i = 0; i < message.tool_calls.size(); ++i) {
      const ToolCall& call = message.tool_calls[i];
      out_.control(i == 0 ? "<｜tool▁call▁begin｜>function<｜tool▁sep｜>"
                          : "\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>");
      out_.plain(call.name)
          .control("\n```json\n")
          .plain(call.arguments)
          .control("\n```<｜tool▁call▁end｜>");
    }
    out_.control("<｜tool▁calls▁end｜>").control(kEos);
    in_results_ = after_user_ = false;
    first_result_ = true;
  }

  void tool_result(const ChatMessage& message) {
    if (first_result_)
      out_.control("<｜tool▁outputs▁begin｜>");
    else if (style_.newline_between_results)
      out_.control("\n");
    out_.control("<｜tool▁output▁begin｜>");
    out_.plain(message.content).control("<｜tool▁output▁end｜>");
    first_result_ = after_user_ = false;
    in_results_ = true;
  }

  const DeepSeekStyle& style_;
  PromptBuilder& out_;
  bool in_results_ = false;   ///< <｜tool▁outputs▁begin｜> is open
  bool first_result_ = true;  ///< no result since the last calls
  bool after_user_ = false;   ///< the last turn was a user's
};

}  // namespace

Result<Prompt> render_deepseek_turns(const ChatRequest& request, const DeepSeekStyle& style) {
  HADAL_TRY(check_request(request, {.format = style.format,
                                    .roles = {"system", "user", "assistant", "tool"},
                                    .tool_calls = true,
                                    .may_think = style.thinks,
                                    .may_not_think = !style.thinks}));
  PromptBuilder out;
  Turns turns(style, out);
  turns.system(request.messages);
  for (const ChatMessage& message : request.messages) turns.turn(message);
  return turns.finish(request.add_generation_prompt);
}

bool has_deepseek_turns(std::string_view chat_template) {
  return contains_all(chat_template, {"'<｜User｜>' + ", "<｜Assistant｜>",
                                      "tool['type'] + '<｜tool▁sep｜>'", "ns.system_prompt"}) &&
         !contains_any(chat_template, {"｜DSML｜", "thinking", "tools |", "if tools",
                                       "<｜User｜>' + message['content'] + '<｜end"});
}

}  // namespace hadal::chat
