// The fields of Anthropic's and Ollama's APIs, and of Hadal's own.
#include "server/openapi_fields.h"

namespace hadal::server {
namespace {

constexpr bool kNeeded = true;
constexpr std::string_view kNoEffect = "Taken, and without effect.";
constexpr std::string_view kModel = "Name of the model, of an alias or of an adapter.";

// ---- Anthropic

constexpr ApiField kMessages[] = {
    {"model", "string",
     "Name of the model, of an alias or of an adapter. Left out: the model that is served.",
     "model"},
    {"messages", "array", "The conversation so far.", "messages", kNeeded},
    {"messages[].role", "string", "\"user\", \"assistant\" or \"system\".", {}, kNeeded},
    {"messages[].content", "string|array",
     "A text, or blocks: text, thinking, tool_use, tool_result.", "messages[].content", kNeeded},
    {"system", "string|array", "What the system says: a text, or blocks of text."},
    {"stop_sequences", "string|array", "Texts that end the answer, and are no part of it.", "stop"},
    {"stream", "boolean", "The answer is sent while it is generated."},
    {"tools", "array", "Tools that the model may call.", "tools"},
    {"tools[].type", "string", "\"custom\"."},
    {"tools[].name", "string", "Letters, digits, _, - and dots.", "tools[].function.name", kNeeded},
    {"tools[].description", "string", "For the model."},
    {"tools[].input_schema", "object", "A JSON schema.", {}, kNeeded},
    {"tools[].strict", "boolean", "Calls must match the schema."},
    {"tools[].allowed_callers", "array", "\"direct\" must be among them."},
    {"tool_choice", "object", "Which tools are called."},
    {"tool_choice.type", "string", "\"auto\", \"any\", \"tool\" or \"none\".", {}, kNeeded},
    {"tool_choice.name", "string", "Where type is tool: which one."},
    {"tool_choice.disable_parallel_tool_use", "boolean", "An answer holds one call at most."},
    {"thinking", "object", "Whether the model thinks first."},
    {"thinking.type", "string", "\"enabled\", \"disabled\" or \"adaptive\".", {}, kNeeded},
    {"thinking.budget_tokens", "integer", "Most tokens of the thought.", "thinking_token_budget"},
    {"thinking.display", "string", "\"summarized\", or \"omitted\": the thought is left out."},
    {"include_reasoning", "boolean", "false: the thought is left out. Left out: true."},
    {"output_config", "object", "Effort and shape of the answer."},
    {"output_config.effort", "string|integer", "How much the model thinks.", "reasoning_effort"},
    {"output_config.format", "object", "{\"type\": \"json_schema\", \"schema\"}."},
    {"output_format", "object", "The older name of output_config.format."},
    {"context_management", "object", "Edits that keep all of the thoughts."},
    {"metadata", "any", kNoEffect},
    {"service_tier", "any", kNoEffect},
    {"betas", "any", kNoEffect},
    {"anthropic_beta", "any", kNoEffect},
    {"anthropic_version", "any", kNoEffect},
    {"cache_control", "any", kNoEffect},
    {"diagnostics", "any", kNoEffect},
    {"inference_geo", "any", kNoEffect},
    {"speed", "any", kNoEffect},
    {"billing_policy", "any", kNoEffect},
    {"user_profile_id", "any", kNoEffect},
    {"workspace_id", "any", kNoEffect},
    {"stream_options", "any", kNoEffect},
    {"user", "any", kNoEffect},
    {"store", "any", kNoEffect},
    {"request_id", "any", kNoEffect},
    {"fallback_credit_token", "any", kNoEffect},
};

constexpr ApiField kLength[] = {
    {"max_tokens", "integer", "Most tokens of the answer, its thought included.", "max_tokens",
     kNeeded},
};
constexpr ApiField kNoLength[] = {
    {"max_tokens", "integer", "Without effect: nothing is generated.", "max_tokens"},
};

// ---- Ollama

constexpr ApiField kOllama[] = {
    {"model", "string", kModel, "model", kNeeded},
    {"stream", "boolean", "The answer is sent while it is generated. Left out: true."},
    {"format", "string|object", "\"json\", or the JSON schema that the answer must have."},
    {"think", "boolean|string",
     "Whether the model thinks first; \"low\", \"medium\", \"high\" or \"max\" says how much."},
    {"thinking_token_budget", "integer", "Most tokens of the thought.", "thinking_token_budget"},
    {"logprobs", "boolean", "Tells the log-probability of each token."},
    {"top_logprobs", "integer", "So many rivals of each token; needs logprobs.", "top_logprobs"},
    {"keep_alive", "number|string",
     "Seconds, or a duration such as \"5m\". Without effect: the model stays."},
    {"options", "object",
     "How the answer is generated; how tokens are chosen stands here as well."},
    {"options.num_predict", "integer",
     "Most tokens of the answer; 0, -1 and -2: until the context is full.", "num_predict"},
    {"options.num_ctx", "integer", "No more than the server's context.", "num_ctx"},
    {"options.stop", "string|array", "Texts that end the answer, and are no part of it.", "stop"},
    {"options.repeat_penalty", "number", "The same as repetition_penalty.", "repetition_penalty"},
    {"options.repeat_last_n", "integer",
     "0 turns the penalties off; -1 lets them look at all of the text, as they do.",
     "repeat_last_n"},
    {"options.numa", "any", kNoEffect},
    {"options.num_batch", "any", kNoEffect},
    {"options.num_gpu", "any", kNoEffect},
    {"options.main_gpu", "any", kNoEffect},
    {"options.low_vram", "any", kNoEffect},
    {"options.f16_kv", "any", kNoEffect},
    {"options.logits_all", "any", kNoEffect},
    {"options.vocab_only", "any", kNoEffect},
    {"options.use_mmap", "any", kNoEffect},
    {"options.use_mlock", "any", kNoEffect},
    {"options.num_thread", "any", kNoEffect},
    {"options.num_keep", "any", kNoEffect},
    {"options.embedding_only", "any", kNoEffect},
    {"options.mirostat", "any", kNoEffect},
    {"options.tfs_z", "any", kNoEffect},
    {"options.mirostat_tau", "any", kNoEffect},
    {"options.mirostat_eta", "any", kNoEffect},
    {"options.penalize_newline", "any", kNoEffect},
};

constexpr ApiField kOllamaChat[] = {
    {"messages", "array", "The conversation so far. Left out or empty: nothing is generated.",
     "messages", false, true},
    {"messages[].role", "string", "\"system\", \"user\", \"assistant\" or \"tool\".", {}, kNeeded},
    {"messages[].content", "string", "What is said."},
    {"messages[].thinking", "string", "The assistant's thought."},
    {"messages[].tool_calls", "array",
     "The assistant's calls: {\"id\", \"function\": {\"name\", \"arguments\"}}.",
     "messages[].tool_calls"},
    {"messages[].tool_name", "string", "Of a tool's message: which tool answers."},
    {"messages[].tool_call_id", "string", "Of a tool's message: the call that it answers."},
    {"tools", "array", "Functions that the model may call.", "tools"},
    {"tools[].type", "string", "\"function\"."},
    {"tools[].function", "object", "The function.", {}, kNeeded},
    {"tools[].function.name", "string", "For the model.", "tools[].function.name", kNeeded},
    {"tools[].function.description", "string", "For the model."},
    {"tools[].function.parameters", "object", "A JSON schema."},
};

constexpr ApiField kOllamaGenerate[] = {
    {"prompt", "string", "What is said. Left out or empty: nothing is generated."},
    {"suffix", "string", "What follows: the answer is what belongs between."},
    {"system", "string", "What the system says, in front of the prompt."},
    {"raw", "boolean", "The prompt is taken as it is, without the chat format."},
};

constexpr ApiField kOllamaShow[] = {
    {"model", "string", "The model's name. It, or name, is needed.", "model"},
    {"name", "string", "The older name of this field.", "model"},
    {"verbose", "boolean", "Tells more of the tokenizer."},
};

// ---- Hadal

constexpr ApiField kTokenize[] = {
    {"model", "any", kNoEffect},
    {"prompt", "string", "A text. It, content or messages is needed."},
    {"content", "string", "The same as prompt."},
    {"add_special_tokens", "boolean",
     "Whether the text begins with the tokenizer's first token. Left out: true."},
    {"messages", "array", "A chat, as in /v1/chat/completions: its prompt is what is split."},
    {"tools", "array", "Of a chat."},
    {"thinking", "boolean|object", "Of a chat."},
    {"reasoning_effort", "string|integer", "Of a chat."},
    {"effort", "string|integer", "Of a chat."},
    {"response_format", "object", "Of a chat."},
    {"add_generation_prompt", "boolean", "Of a chat. Left out: true."},
};

constexpr ApiField kDetokenize[] = {
    {"tokens", "array", "Token ids.", "prompt[]"},
};

}  // namespace

constexpr FieldGroup kMessagesFields{"Messages", "Of messages", kMessages};
constexpr FieldGroup kMessagesLength{"MessagesLength", "Length of a message", kLength};
constexpr FieldGroup kCountLength{"CountLength", "Length of a message", kNoLength};
constexpr FieldGroup kOllamaFields{"Ollama", "Of Ollama's calls", kOllama};
constexpr FieldGroup kOllamaChatFields{"OllamaChat", "Of a chat", kOllamaChat};
constexpr FieldGroup kOllamaGenerateFields{"OllamaGenerate", "Of a prompt", kOllamaGenerate};
constexpr FieldGroup kOllamaShowFields{"OllamaShow", "Of the model shown", kOllamaShow};
constexpr FieldGroup kTokenizeFields{"Tokenize", "Of what is split", kTokenize};
constexpr FieldGroup kDetokenizeFields{"Detokenize", "Of what is joined", kDetokenize};

}  // namespace hadal::server
