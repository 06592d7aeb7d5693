// Chat formats: messages in, prompt text and ids out. One file per format in this folder, listed by
// hand in chat.cc.
//
// The model's own Jinja template is never executed: it is recognised (exact text, or the marks that
// identify a family) and named. Special-token strings inside a message stay text: a prompt is a
// list of pieces, each either control or plain.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer/tokenizer.h"

namespace hadal {

struct ToolCall {
  std::string id = {};
  std::string name = {};
  std::string arguments = {};  ///< JSON text
};

struct ChatMessage {
  std::string role = {};       ///< "system", "user", "assistant", "tool", …
  std::string content = {};    ///< text
  std::string reasoning = {};  ///< reasoning_content of an assistant turn, "" if none
  std::vector<ToolCall> tool_calls = {};
  std::string tool_call_id = {};
  std::string name = {};
  bool prefix = false;  ///< the last message, an assistant's: the model goes on with it
};

/// What shape the answer must have; a format that is told of it says so in its prompt.
enum class ResponseFormat { kText, kJsonObject, kJsonSchema };

struct ChatRequest {
  std::vector<ChatMessage> messages = {};
  std::string tools_json = {};        ///< JSON list of tools, "" if none
  std::optional<bool> thinking = {};  ///< unset: the format's own default
  std::string effort = {};            ///< "low", "high", … or a number; "" = the format's default
  ResponseFormat response_format = ResponseFormat::kText;
  std::string response_schema = {};  ///< of kJsonSchema: a JSON object
  /// A grammar holds the answer to that shape: a format that has no words for it leaves it unsaid.
  bool shape_is_held = false;
  bool add_generation_prompt = true;
  std::string chat_template =
      {};  ///< the checkpoint's own template: some hold a default system message; may be ""
};

/// A stretch of the prompt. In control text, markers are recognised; plain text never becomes one.
struct PromptPiece {
  std::string text = {};
  bool control = false;
};

struct Prompt {
  std::vector<PromptPiece> pieces = {};
  bool thinking = false;   ///< the model starts its answer inside a thought
  bool continues = false;  ///< the answer goes on with what the last message began (its prefix)

  [[nodiscard]] std::string text() const;
};

/// One chat format.
struct ChatFormat {
  std::string_view name;         ///< as in --chat-format: "chatml", "llama3", "deepseek-r1", …
  std::string_view description;  ///< one line for --help
  bool (*recognises)(std::string_view chat_template);
  Result<Prompt> (*render)(const ChatRequest& request, const Tokenizer* tokenizer);
  std::string_view output_parser;  ///< name of the output format (text/output)
  std::span<const std::string_view>
      stops;  ///< token strings that end an answer, beside the tokenizer's own
  std::string_view model_type = {};  ///< checkpoints of this type come without a template
};

/// All formats, in the order of --help.
std::span<const ChatFormat> chat_formats();
const ChatFormat* find_chat_format(std::string_view name);

/// The format of a checkpoint: by its template, else by tokenizer and model type; the error names
/// what was seen and --chat-format.
Result<const ChatFormat*> detect_chat_format(const TokenizerData& data,
                                             std::string_view model_type);

/// Ids of a prompt: in control pieces a marker that the vocabulary holds as one entry is that
/// entry, plain pieces stay text. No BOS beyond what the pieces say. Text between two added tokens
/// is encoded as one, across the borders of pieces: the ids equal those of the whole text.
std::vector<TokenId> encode_prompt(const Prompt& prompt, const Tokenizer& tokenizer);

}  // namespace hadal
