// What an API asks for, in the form that all of them share: a chat or raw completions, with what is
// wanted of the answers. Each API reads its bodies into one of these.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/token_id.h"
#include "session/answer_options.h"
#include "text/chat/chat.h"

namespace hadal::server {

/// What any call says.
struct ApiCall {
  std::string model = {};  ///< "" if the body names none
  AnswerOptions options = {};
  bool stream = false;
  bool include_usage = false;  ///< of a stream: a chunk of its own at the end tells usage
  std::vector<std::string> ignored = {};  ///< unknown fields of the body
};

/// A function that the model may call.
struct ToolSpec {
  std::string name = {};
  std::string parameters = {};  ///< a JSON schema; "" if none
  bool strict = false;          ///< calls must match the schema
};

struct ChatCall : ApiCall {
  ChatRequest chat = {};
  std::vector<ToolSpec> tools = {};  ///< those that may be called: none with tool_choice "none"
  bool include_reasoning = true;     ///< false: the thought is left out of the response
};

/// One of a call's prompts.
struct CompletionPrompt {
  std::string text = {};
  std::vector<TokenId> ids = {};  ///< where it was given so; not empty then
};

struct CompletionCall : ApiCall {
  std::vector<CompletionPrompt> prompts = {};
  std::optional<std::string> suffix = {};
  bool echo = false;               ///< the prompt is part of the text
  bool add_special_tokens = true;  ///< BOS in front, where the tokenizer's configuration has it
};

using Call = std::variant<ChatCall, CompletionCall>;

/// What both have.
inline ApiCall& common(Call& call) {
  return std::visit([](auto& c) -> ApiCall& { return c; }, call);
}
inline const ApiCall& common(const Call& call) {
  return std::visit([](const auto& c) -> const ApiCall& { return c; }, call);
}

}  // namespace hadal::server
