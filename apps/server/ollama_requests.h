// POST /api/chat and /api/generate without HTTP: Ollama's bodies become a ChatCall or a
// CompletionCall, answers become Ollama's objects, whole or one a line.
//
// Of a chat: messages (role, content, thinking, tool_calls with arguments as an object, tool_name,
// tool_call_id), tools, format, options, stream (on unless it is turned off), think, keep_alive,
// logprobs, top_logprobs. Of generate: prompt, system, suffix (fill in the middle), raw, and the
// rest as there; what is neither raw nor has a suffix is a chat of one user's message. Without
// messages, or without a prompt, the body asks to load a model, or to unload it by a keep_alive of
// 0; both are answered at once and do nothing here.
//
// Refused: images, template, context, truncate and shift (a prompt is never cut), typical_p, a
// num_ctx beyond the server's, and a repeat_last_n together with a penalty: penalties look at the
// whole text. Options of Ollama's runner (num_gpu, num_thread, num_keep, …), those it no longer
// obeys itself (mirostat, tfs_z, …) and unknown ones are let pass, as by Ollama. keep_alive is
// checked and has no effect. A repeat_last_n of 0 turns the penalties off.
//
// Beside these, at the top level, Hadal's own fields: structured_outputs, guided_…, logit_bias,
// thinking_token_budget, and those of read_extensions (call_fields.h).
//
// `think` left out is the chat format's own default. Ollama turns thinking on for every model that
// has it; whoever wants that sets ChatRequest::thinking where it is unset (ModelCard::thinks).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "server/call.h"
#include "server/fields.h"
#include "server/reply.h"

namespace hadal::server {

/// What a body asks for.
enum class OllamaTask : uint8_t {
  kAnswer,
  kLoad,    ///< nothing was said: answered by ollama_load_body() at once
  kUnload,  ///< the same with a keep_alive of 0
};

struct OllamaCall {
  Call call = {};  ///< of kLoad and kUnload there is a model in it and nothing else
  OllamaTask task = OllamaTask::kAnswer;
  bool generates = false;  ///< /api/generate: answers have "response" in place of "message"
};

/// `context`: tokens that the server's longest sequence has. Errors: kUsage with the path of the
/// field.
Result<OllamaCall> read_ollama_chat(const Json& body, int64_t context);
Result<OllamaCall> read_ollama_generate(const Json& body, int64_t context);

/// The response to a call that asks for no answer. It is whole, whatever `stream` says.
std::string ollama_load_body(const ReplyHead& head, const OllamaCall& call);

/// The clocks of a reply, in nanoseconds; where none is given, the machine's.
struct OllamaClock {
  std::function<int64_t()> since_1970 = {};  ///< for people: created_at
  std::function<int64_t()> steady = {};      ///< for durations
};

/// The response, or its stream of lines (application/x-ndjson). Calls of tools are told whole. The
/// durations run from here on: up to begin() it is the prompt's, behind it the answer's. A response
/// that was no stream does not know when its first token came: it leaves prompt_eval_duration out,
/// and eval_duration is all of the time.
std::unique_ptr<Reply> make_ollama_reply(ReplyHead head, const OllamaCall& call,
                                         OllamaClock clock = {});

/// {"error": "text"}
std::string ollama_error_body(const ApiError& error);

/// RFC 3339 in UTC, "2025-01-31T12:00:00.123456789Z". `nanoseconds` since 1970.
std::string rfc3339(int64_t nanoseconds);

}  // namespace hadal::server
