// What the chat formats of this folder share: building a prompt from pieces, the checks of a
// request, and the formats' list.
//
// Internal to text/chat. Each format's .cc implements two functions: whether a template is its own,
// and rendering.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "text/chat/chat.h"

namespace hadal::chat {

/// Collects pieces; neighbours of one kind become one.
class PromptBuilder {
 public:
  /// Structure: markers and fixed words of the format.
  PromptBuilder& control(std::string_view text) { return add(text, true); }
  /// What a user or a model wrote.
  PromptBuilder& plain(std::string_view text) { return add(text, false); }
  Prompt finish(bool thinking, bool continues = false) {
    prompt_.thinking = thinking;
    prompt_.continues = continues;
    return std::move(prompt_);
  }

 private:
  PromptBuilder& add(std::string_view text, bool control);
  Prompt prompt_;
};

/// What a format can express. What it cannot is refused, so that nothing of a request is dropped in
/// silence.
struct Abilities {
  std::string_view format;                        ///< its name, for messages
  std::initializer_list<std::string_view> roles;  ///< known roles
  bool tools = false;                             ///< declares tools
  bool tool_calls = false;                        ///< writes calls of earlier turns
  bool may_think = false, may_not_think = true;   ///< thinking = true, = false can be asked for
  bool prefix = false;                            ///< goes on with a last answer that has begun
  bool effort = false;                            ///< checks and writes the effort itself
  bool response_format = false;                   ///< tells the model of the answer's shape
};

/// Usage errors in words: no messages, an unknown role, a misplaced prefix; tools, calls, thinking,
/// prefix, effort or response format that the format does not have.
Status check_request(const ChatRequest& request, const Abilities& abilities);

/// Whether `text` contains all of `marks`.
bool contains_all(std::string_view text, std::initializer_list<std::string_view> marks);
bool contains_any(std::string_view text, std::initializer_list<std::string_view> marks);
inline bool contains(std::string_view text, std::string_view mark) {
  return text.find(mark) != std::string_view::npos;
}

/// Python's str.strip(): all white space that Unicode knows, off both ends of UTF-8 text.
std::string_view strip(std::string_view text);
/// Python's lstrip("\n") and rstrip("\n").
std::string_view strip_newlines_left(std::string_view text);
std::string_view strip_newlines_right(std::string_view text);
/// What stands after the last `mark`; all of it where there is none: Python's text.split(mark)[-1].
std::string_view after_last(std::string_view text, std::string_view mark);

bool recognises_chatml(std::string_view chat_template);
Result<Prompt> render_chatml(const ChatRequest& request, const Tokenizer* tokenizer);
bool recognises_llama3(std::string_view chat_template);
Result<Prompt> render_llama3(const ChatRequest& request, const Tokenizer* tokenizer);
bool recognises_qwen3(std::string_view chat_template);
Result<Prompt> render_qwen3(const ChatRequest& request, const Tokenizer* tokenizer);
bool recognises_deepseek_llm(std::string_view chat_template);
Result<Prompt> render_deepseek_llm(const ChatRequest& request, const Tokenizer* tokenizer);
bool recognises_deepseek_coder(std::string_view chat_template);
Result<Prompt> render_deepseek_coder(const ChatRequest& request, const Tokenizer* tokenizer);
bool recognises_deepseek_v25(std::string_view chat_template);
Result<Prompt> render_deepseek_v25(const ChatRequest& request, const Tokenizer* tokenizer);
bool recognises_deepseek_v3(std::string_view chat_template);
Result<Prompt> render_deepseek_v3(const ChatRequest& request, const Tokenizer* tokenizer);
bool recognises_deepseek_r1(std::string_view chat_template);
Result<Prompt> render_deepseek_r1(const ChatRequest& request, const Tokenizer* tokenizer);
bool recognises_deepseek_r1_0528(std::string_view chat_template);
Result<Prompt> render_deepseek_r1_0528(const ChatRequest& request, const Tokenizer* tokenizer);
bool recognises_deepseek_v31(std::string_view chat_template);
Result<Prompt> render_deepseek_v31(const ChatRequest& request, const Tokenizer* tokenizer);
bool recognises_deepseek_v32(std::string_view chat_template);
Result<Prompt> render_deepseek_v32(const ChatRequest& request, const Tokenizer* tokenizer);
bool recognises_deepseek_v4(std::string_view chat_template);
Result<Prompt> render_deepseek_v4(const ChatRequest& request, const Tokenizer* tokenizer);
bool recognises_deepseek_v41(std::string_view chat_template);
Result<Prompt> render_deepseek_v41(const ChatRequest& request, const Tokenizer* tokenizer);

}  // namespace hadal::chat
