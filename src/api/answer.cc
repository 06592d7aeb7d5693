// Answers of the C library: begun, taken, cancelled, read, freed.
#include <algorithm>
#include <chrono>
#include <cmath>

#include "api/border.h"
#include "api/core.h"

namespace hadal::api {
namespace {

/// Waits under `lock` until `ready`, at most so many seconds (< 0: without end). False: it is not.
template <typename Ready>
Result<bool> wait(AnswerState& answer, std::unique_lock<std::mutex>& lock, double seconds,
                  Ready ready) {
  if (std::isnan(seconds)) return usage_error("seconds is no number");
  if (ready()) return true;
  if (seconds == 0) return false;
  if (answer.core->is_teller())
    return usage_error("a callback of the model would wait for itself: wait 0 seconds there");
  constexpr double kLong = 1e8;  // three years
  if (seconds < 0 || seconds > kLong) {
    answer.changed.wait(lock, ready);
    return true;
  }
  return answer.changed.wait_for(lock, std::chrono::duration<double>(seconds), ready);
}

/// What the next event of an answer shows is kept in its handle.
Status next(hadal_answer& answer, double seconds, hadal_event* out) {
  AnswerState& state = *answer.state;
  if (state.listener.on_event)
    return usage_error("the answer has an on_event, which gets its events");
  std::unique_lock lock(state.mutex);
  const auto all_told = [&] {
    return std::all_of(state.choices.begin(), state.choices.end(),
                       [](const Choice& c) { return c.end_told; });
  };
  const auto news = [&] {
    return std::find_if(state.choices.begin(), state.choices.end(),
                        [](const Choice& c) { return c.has_news(); });
  };
  HADAL_TRY(const bool come, wait(state, lock, seconds,
                                  [&] { return news() != state.choices.end() || all_told(); }));
  answer.taken = {};
  answer.calls.clear();
  const auto choice = news();
  if (!come || choice == state.choices.end()) {
    hadal_event event = event_of(-1, answer.taken, answer.calls);
    event.over = come ? 1 : 0;
    write_struct(out, event);
    return {};
  }
  answer.taken = std::exchange(choice->pending, {});
  answer.calls = views_of(answer.taken.tool_calls);
  hadal_event event =
      event_of(static_cast<int32_t>(choice - state.choices.begin()), answer.taken, answer.calls);
  if (choice->ended) {
    event.end = choice->end;
    choice->end_told = true;
  }
  event.over = all_told() ? 1 : 0;
  write_struct(out, event);
  return {};
}

hadal_result result_of(const Choice& choice) {
  const Answer& answer = choice.answer;
  const Usage& usage = answer.usage;
  static_assert(sizeof(TokenId) == sizeof(int32_t));
  hadal_result result{};
  result.size = sizeof result;
  result.end = choice.end;
  result.text = answer.content.c_str();
  result.reasoning = answer.reasoning.c_str();
  result.tool_calls = choice.calls.data();
  result.tool_call_count = choice.calls.size();
  result.ids = answer.ids.data();
  result.id_count = answer.ids.size();
  result.tokens = choice.tokens.data();
  result.token_count = choice.tokens.size();
  result.usage = {.prompt_tokens = usage.prompt_tokens,
                  .new_tokens = usage.new_tokens,
                  .cached_tokens = usage.cached_tokens,
                  .thought_tokens = usage.thought_tokens,
                  .drafted_tokens = usage.drafted_tokens,
                  .accepted_tokens = usage.accepted_tokens,
                  .first_token_seconds = usage.first_token_seconds,
                  .total_seconds = usage.total_seconds};
  return result;
}

/// The messages and switches of a chat.
Result<ChatRequest> read_chat(const hadal_chat& given, AnswerOptions& options) {
  ChatRequest chat;
  if (given.conversation) chat.messages = messages_of(*given.conversation);
  HADAL_TRY(std::vector<ChatMessage> more, read_messages(given.messages, given.message_count));
  std::move(more.begin(), more.end(), std::back_inserter(chat.messages));
  if (chat.messages.empty()) return usage_error("chat: has no messages");
  for (size_t i = 0; i + 1 < chat.messages.size(); ++i) chat.messages[i].prefix = false;
  if (chat.messages.back().prefix && chat.messages.back().role != "assistant")
    return usage_error("messages: a prefix must be the assistant's");
  HADAL_TRY(chat.tools_json, read_text(given.tools_json, "tools_json"));
  HADAL_TRY(chat.effort, read_text(given.effort, "effort"));
  HADAL_TRY(check_enum(given.thinking, HADAL_SWITCH_OFF, "thinking"));
  if (given.thinking != HADAL_SWITCH_DEFAULT) chat.thinking = given.thinking == HADAL_SWITCH_ON;
  HADAL_TRY(check_enum(given.tool_use, HADAL_TOOLS_NAMED, "tool_use"));
  options.tool_use = static_cast<ToolUse>(given.tool_use);
  HADAL_TRY(options.tool_name, read_text(given.tool_name, "tool_name"));
  if (options.tool_use == ToolUse::kNamed && options.tool_name.empty())
    return usage_error("tool_name: is missing");
  if (chat.tools_json.empty() && options.tool_use != ToolUse::kAuto &&
      options.tool_use != ToolUse::kNone)
    return usage_error("tool_use: calls are asked for, and tools_json is missing");
  options.strict_tools = given.strict_tools != 0;
  options.parallel_tool_calls = given.one_call == 0;
  if (options.tool_use == ToolUse::kNone) chat.tools_json.clear();
  return chat;
}

Result<std::vector<TokenId>> read_prompt(const hadal_prompt& given, const Session& session) {
  if ((given.text != nullptr) == (given.ids != nullptr))
    return usage_error("prompt: one of text and ids is expected");
  if (!given.text) return read_ids(given.ids, given.id_count, session.engine().spec().vocab_size);
  constexpr uint32_t kFlags = HADAL_TOKENIZE_BOS | HADAL_TOKENIZE_PLAIN;
  if ((given.flags & ~kFlags) != 0) return usage_error("prompt.flags: has unknown bits");
  const Tokenizer* tokenizer = session.tokenizer();
  if (!tokenizer) return usage_error("prompt.text: the model has no tokenizer");
  HADAL_TRY(const std::string text, read_text(given.text, "prompt.text"));
  std::vector<TokenId> ids = tokenizer->encode(
      text, {.added_tokens = (given.flags & HADAL_TOKENIZE_PLAIN) == 0,
             .bos = (given.flags & HADAL_TOKENIZE_BOS) != 0 || tokenizer->add_bos()});
  if (ids.empty()) return usage_error("prompt.text: is empty");
  return ids;
}

}  // namespace

Result<hadal_answer*> start_answer(hadal_model& model, PreparedRequest prepared,
                                   std::string adapter, const hadal_listener* listener) {
  HADAL_TRY(const hadal_listener known, read_optional(listener, "listener"));
  if (known.on_event && known.on_ready)
    return usage_error("listener: has both on_event and on_ready; give one");
  auto answer = std::make_unique<hadal_answer>();
  HADAL_TRY(answer->state, model.core->start(std::move(prepared), std::move(adapter), known));
  return answer.release();
}

}  // namespace hadal::api

using namespace hadal;
using namespace hadal::api;

hadal_code hadal_chat_start(hadal_model* model, const hadal_chat* chat,
                            const hadal_answer_options* options, const hadal_listener* listener,
                            hadal_answer** out, hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!out) return usage_error("out is NULL");
    *out = nullptr;
    if (!model) return usage_error("model is NULL");
    HADAL_TRY(const hadal_chat known, read_struct(chat, "chat"));
    ChatRequest request;
    HADAL_TRY(AnswerOptions wanted, read_answer_options(*model->core, options, &request));
    HADAL_TRY(ChatRequest messages, read_chat(known, wanted));
    messages.response_format = request.response_format;
    messages.response_schema = std::move(request.response_schema);
    const std::shared_lock adapters(model->core->adapters());
    HADAL_TRY(PreparedRequest prepared,
              model->core->session().prepare_chat(std::move(messages), wanted));
    HADAL_TRY(*out, start_answer(*model, std::move(prepared), wanted.adapter, listener));
    return {};
  });
}

hadal_code hadal_generate_start(hadal_model* model, const hadal_prompt* prompt,
                                const hadal_answer_options* options, const hadal_listener* listener,
                                hadal_answer** out, hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!out) return usage_error("out is NULL");
    *out = nullptr;
    if (!model) return usage_error("model is NULL");
    Session& session = model->core->session();
    HADAL_TRY(const hadal_prompt known, read_struct(prompt, "prompt"));
    HADAL_TRY(const AnswerOptions wanted, read_answer_options(*model->core, options, nullptr));
    HADAL_TRY(std::vector<TokenId> ids, read_prompt(known, session));
    if (static_cast<int64_t>(ids.size()) >= session.engine().longest())
      return memory_error("the prompt has " + std::to_string(ids.size()) +
                          " tokens, the context holds " +
                          std::to_string(session.engine().longest()) + ": no room for an answer");
    const std::shared_lock adapters(model->core->adapters());
    HADAL_TRY(PreparedRequest prepared, session.prepare_ids(std::move(ids), wanted));
    HADAL_TRY(*out, start_answer(*model, std::move(prepared), wanted.adapter, listener));
    return {};
  });
}

hadal_code hadal_answer_next(hadal_answer* answer, double seconds, hadal_event* out,
                             hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!answer) return usage_error("answer is NULL");
    HADAL_TRY(check_out(out, "out"));
    return next(*answer, seconds, out);
  });
}

hadal_code hadal_answer_wait(hadal_answer* answer, double seconds, uint32_t* over,
                             hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!answer) return usage_error("answer is NULL");
    AnswerState& state = *answer->state;
    std::unique_lock lock(state.mutex);
    HADAL_TRY(const bool ended, wait(state, lock, seconds, [&] { return state.told; }));
    if (over) *over = ended ? 1 : 0;
    return {};
  });
}

void hadal_answer_cancel(hadal_answer* answer) {
  if (!answer) return;
  answer->state->cancel_asked = true;
  answer->state->core->look();
}

hadal_code hadal_answer_result(const hadal_answer* answer, int32_t choice, hadal_result* out,
                               hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!answer) return usage_error("answer is NULL");
    HADAL_TRY(check_out(out, "out"));
    AnswerState& state = *answer->state;
    const std::scoped_lock lock(state.mutex);
    if (choice < 0 || static_cast<size_t>(choice) >= state.choices.size())
      return usage_error("choice is " + std::to_string(choice) + ", 0 to " +
                         std::to_string(state.choices.size() - 1) + " is expected");
    const Choice& c = state.choices[static_cast<size_t>(choice)];
    if (!c.ended)
      return Error{.code = ErrorCode::kBusy, .message = "the answer goes on: wait for its end"};
    if (c.error) return *c.error;
    write_struct(out, result_of(c));
    return {};
  });
}

void hadal_answer_free(hadal_answer* answer) {
  if (!answer) return;
  AnswerState& state = *answer->state;
  // In a callback of the model the lock may be held by this very thread.
  if (state.core->is_teller()) {
    state.detached = true;
  } else {
    const std::scoped_lock lock(state.calling);
    state.detached = true;
  }
  hadal_answer_cancel(answer);
  delete answer;
}
