// Conversations of the C library, over session/conversation.h.
#include "session/conversation.h"

#include "api/border.h"
#include "api/core.h"

struct hadal_conversation {
  hadal::Conversation own;
  mutable std::vector<hadal_tool_call> calls;  ///< of the message that was looked at last
};

namespace hadal::api {

const std::vector<ChatMessage>& messages_of(const hadal_conversation& conversation) {
  return conversation.own.messages;
}

}  // namespace hadal::api

using namespace hadal;
using namespace hadal::api;

hadal_code hadal_conversation_create(hadal_conversation** out, hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!out) return usage_error("out is NULL");
    *out = new hadal_conversation;
    return {};
  });
}

hadal_code hadal_conversation_load(const char* file, hadal_conversation** out,
                                   hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!out) return usage_error("out is NULL");
    *out = nullptr;
    if (!file) return usage_error("file is NULL");
    auto conversation = std::make_unique<hadal_conversation>();
    HADAL_TRY(conversation->own, load_conversation(file));
    *out = conversation.release();
    return {};
  });
}

hadal_code hadal_conversation_save(const hadal_conversation* conversation, const char* file,
                                   hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!conversation || !file) return usage_error("conversation or file is NULL");
    return save_conversation(conversation->own, file);
  });
}

hadal_code hadal_conversation_add(hadal_conversation* conversation, const hadal_message* message,
                                  hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!conversation) return usage_error("conversation is NULL");
    HADAL_TRY(const hadal_message known, read_struct(message, "message"));
    HADAL_TRY(ChatMessage read, read_message(known, "message"));
    conversation->own.messages.push_back(std::move(read));
    return {};
  });
}

hadal_code hadal_conversation_add_answer(hadal_conversation* conversation,
                                         const hadal_answer* answer, int32_t choice,
                                         hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!conversation) return usage_error("conversation is NULL");
    hadal_result result{};
    result.size = sizeof result;
    hadal_failure own{};
    own.size = sizeof own;
    if (const hadal_code code = hadal_answer_result(answer, choice, &result, &own);
        code != HADAL_CODE_OK)
      return Error{.code = static_cast<ErrorCode>(code), .message = own.text};
    ChatMessage message{.role = "assistant", .content = result.text, .reasoning = result.reasoning};
    for (size_t i = 0; i < result.tool_call_count; ++i)
      message.tool_calls.push_back({.id = result.tool_calls[i].id,
                                    .name = result.tool_calls[i].name,
                                    .arguments = result.tool_calls[i].arguments});
    conversation->own.messages.push_back(std::move(message));
    return {};
  });
}

size_t hadal_conversation_count(const hadal_conversation* conversation) {
  return conversation ? conversation->own.messages.size() : 0;
}

hadal_code hadal_conversation_get(const hadal_conversation* conversation, size_t index,
                                  hadal_message* out, hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!conversation) return usage_error("conversation is NULL");
    HADAL_TRY(check_out(out, "out"));
    const std::vector<ChatMessage>& messages = conversation->own.messages;
    if (index >= messages.size())
      return usage_error("index is " + std::to_string(index) + ", the conversation has " +
                         std::to_string(messages.size()) + " messages");
    const ChatMessage& m = messages[index];
    conversation->calls = views_of(m.tool_calls);
    hadal_message message{};
    message.prefix = m.prefix ? 1 : 0;
    message.role = m.role.c_str();
    message.content = m.content.c_str();
    message.reasoning = m.reasoning.c_str();
    message.name = m.name.c_str();
    message.tool_call_id = m.tool_call_id.c_str();
    message.tool_calls = conversation->calls.data();
    message.tool_call_count = conversation->calls.size();
    write_struct(out, message);
    return {};
  });
}

hadal_code hadal_conversation_undo(hadal_conversation* conversation, hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!conversation) return usage_error("conversation is NULL");
    if (!conversation->own.undo()) return not_found("the conversation has no question");
    return {};
  });
}

void hadal_conversation_free(hadal_conversation* conversation) { delete conversation; }
