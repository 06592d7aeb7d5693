#include "text/chat/deepseek_turns.h"

#include "text/chat/deepseek_marks.h"

namespace hadal::chat {
namespace {

/// Renders turn by turn, and knows which tool results are still open.
class Turns {
 public:
  Turns(const DeepSeekStyle& style, PromptBuilder& out) : style_(style), out_(out) {}

  void system(const std::vector<ChatMessage>& messages) {
    std::string text;
    if (style_.joins_systems) text = joined_systems(messages);
    for (const ChatMessage& message : messages)
      if (!style_.joins_systems && message.role == "system") text = message.content;
    out_.control(kBos).plain(text);
  }

  void turn(const ChatMessage& message) {
    if (message.role == "user") user(message);
    if (message.role == "tool") tool_result(message);
    if (message.role != "assistant") return;
    if (message.prefix)
      begun_answer(message);
    else
      message.tool_calls.empty() ? answer(message) : calls(message);
  }

  Prompt finish(bool add_generation_prompt) {
    if (begun_) return out_.finish(in_thought_, true);
    if (in_results_) out_.control("<｜tool▁outputs▁end｜>");
    // After tool results, and where <｜Assistant｜> already stands, the model simply goes on.
    const bool begin =
        add_generation_prompt && !in_results_ && !(style_.assistant_after_user && after_user_);
    if (begin) out_.control(kAssistant);
    if (begin && style_.opens_thought) out_.control(kThink).control("\n");
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
        content = after_last(content, kEndThink);
    } else {
      if (!style_.assistant_after_user) out_.control(kAssistant);
      if (style_.cuts_thoughts) content = after_last(content, kEndThink);
    }
    out_.plain(content).control(kEos);
    in_results_ = after_user_ = false;
  }

  /// The prefix stays as it is: the model goes on right behind it.
  void begun_answer(const ChatMessage& message) {
    if (in_results_) out_.control("<｜tool▁outputs▁end｜>");
    if (!in_results_ && !style_.assistant_after_user) out_.control(kAssistant);
    const bool thought = style_.thinks && !message.reasoning.empty();
    if (thought) out_.control(kThink).control("\n").plain(message.reasoning);
    in_thought_ = thought && message.content.empty();
    if (thought && !in_thought_) out_.control("\n").control(kEndThink).control("\n\n");
    out_.plain(message.content);
    begun_ = true;
  }

  void calls(const ChatMessage& message) {
    if (in_results_) out_.control("<｜tool▁outputs▁end｜>");
    if (!in_results_ && !style_.assistant_after_user) out_.control(kAssistant);
    const bool cut = style_.cuts_thoughts && style_.assistant_after_user;
    out_.plain(cut ? after_last(message.content, kEndThink) : message.content);
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
  bool in_results_ = false;                  ///< <｜tool▁outputs▁begin｜> is open
  bool first_result_ = true;                 ///< no result since the last calls
  bool after_user_ = false;                  ///< the last turn was a user's
  bool begun_ = false, in_thought_ = false;  ///< by a prefix: the answer, a thought in it
};

}  // namespace

Result<Prompt> render_deepseek_turns(const ChatRequest& request, const DeepSeekStyle& style) {
  HADAL_TRY(check_request(request, {.format = style.format,
                                    .roles = {"system", "user", "assistant", "tool"},
                                    .tool_calls = true,
                                    .may_think = style.thinks,
                                    .may_not_think = !style.thinks,
                                    .prefix = true}));
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
