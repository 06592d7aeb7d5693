#include "server/openapi_fields.h"

namespace hadal::server {
namespace {

constexpr bool kNeeded = true;
constexpr std::string_view kNoEffect = "Taken, and without effect.";
constexpr std::string_view kModel =
    "Name of the model, of an alias or of an adapter. Left out: the model that is served.";

// ---- all APIs

constexpr ApiField kSampling[] = {
    {"temperature", "number", "0 takes the likeliest token. Left out: as is usual for the model.",
     "temperature"},
    {"top_p", "number", "The likeliest tokens that together have this probability are drawn from.",
     "top_p"},
    {"top_k", "integer", "So many of the likeliest tokens are drawn from; 0 and -1 are off.",
     "top_k"},
    {"min_p", "number", "Tokens less likely than this share of the likeliest are left out.",
     "min_p"},
    {"presence_penalty", "number", "Taken from the logit of each token that occurred.",
     "presence_penalty"},
    {"frequency_penalty", "number", "Taken from a token's logit for each time that it occurred.",
     "frequency_penalty"},
    {"repetition_penalty", "number", "Divides the logits of tokens that occurred; 1 is off.",
     "repetition_penalty"},
    {"seed", "integer",
     "With it the same request has the same answer. Left out, or -1: drawn by the machine.",
     "seed"},
};

constexpr ApiField kControl[] = {
    {"logit_bias", "object", "Token ids with numbers that are added to their logits.",
     "logit_bias"},
    {"stop_token_ids", "array", "Token ids that end the answer.", "stop_token_ids"},
    {"bad_words", "string|array", "Texts that the answer may not hold.", "bad_words"},
    {"ignore_eos", "boolean", "The answer goes on where the model would end it."},
    {"priority", "integer", "The smaller runs first.", "priority"},
    {"timeout", "number", "Seconds after which the answer ends, queueing included.", "timeout"},
    {"cache_salt", "string", "Prompts share cached prefixes only with those of the same salt.",
     "cache_salt"},
    {"prompt_lookup", "boolean",
     "Whether tokens are guessed from the text so far, for speed. Answers are the same."},
    {"structured_outputs", "object", "The shape that the answer must have: one of its members."},
    {"structured_outputs.json", "object|string", "A JSON schema, or the text of one."},
    {"structured_outputs.json_object", "boolean", "Any JSON object."},
    {"structured_outputs.regex", "string", "A regular expression.", "structured_outputs.regex"},
    {"structured_outputs.grammar", "string", "A grammar in EBNF, which begins at root.",
     "structured_outputs.grammar"},
    {"structured_outputs.choice", "string|array", "Texts, of which one is the answer.",
     "structured_outputs.choice"},
    {"guided_json", "object|string", "The same as structured_outputs.json."},
    {"guided_json_object", "boolean", "The same as structured_outputs.json_object."},
    {"guided_regex", "string", "The same as structured_outputs.regex.", "structured_outputs.regex"},
    {"guided_grammar", "string", "The same as structured_outputs.grammar.",
     "structured_outputs.grammar"},
    {"guided_choice", "string|array", "The same as structured_outputs.choice.",
     "structured_outputs.choice"},
};

// ---- OpenAI, DeepSeek

constexpr ApiField kCommon[] = {
    {"model", "string", kModel, "model"},
    {"n", "integer", "Answers to each prompt.", "n"},
    {"max_tokens", "integer", "Most tokens of an answer, its thought included.", "max_tokens"},
    {"max_completion_tokens", "integer", "The newer name of max_tokens.", "max_completion_tokens"},
    {"stop", "string|array", "Texts that end the answer, and are no part of it.", "stop"},
    {"response_format", "object", "The shape that the answer must have."},
    {"response_format.type", "string", "\"text\", \"json_object\" or \"json_schema\"."},
    {"response_format.json_schema", "object", "Where type is json_schema: schema, and strict."},
    {"stream", "boolean", "The answer is sent while it is generated."},
    {"stream_options", "object", "Of a stream."},
    {"stream_options.include_usage", "boolean", "A chunk at the end tells the usage."},
    {"user", "any", kNoEffect},
    {"store", "any", kNoEffect},
    {"metadata", "any", kNoEffect},
    {"service_tier", "any", kNoEffect},
    {"safety_identifier", "any", kNoEffect},
    {"prompt_cache_key", "any", kNoEffect},
    {"prompt_cache_retention", "any", kNoEffect},
    {"spaces_between_special_tokens", "any", kNoEffect},
    {"request_id", "any", kNoEffect},
    {"guided_decoding_backend", "any", kNoEffect},
};

constexpr ApiField kChat[] = {
    {"messages", "array", "The conversation so far.", "messages", kNeeded},
    {"messages[].role",
     "string",
     "\"system\", \"developer\", \"user\", \"assistant\" or \"tool\".",
     {},
     kNeeded},
    {"messages[].content", "string|array",
     "A text, or parts {\"type\": \"text\", \"text\"}. May be missing beside tool_calls.",
     "messages[].content"},
    {"messages[].reasoning_content", "string", "The assistant's thought."},
    {"messages[].reasoning", "string", "The same."},
    {"messages[].tool_calls", "array",
     "The assistant's calls: {\"id\", \"type\", \"function\": {\"name\", \"arguments\"}}.",
     "messages[].tool_calls"},
    {"messages[].tool_call_id", "string", "Of a tool's message: the call that it answers."},
    {"messages[].name", "string", "Who speaks, where the chat format has a place for it."},
    {"messages[].prefix", "boolean",
     "Of a last message of the assistant's: the answer goes on with it."},
    {"tools", "array", "Functions that the model may call.", "tools"},
    {"tools[].type", "string", "\"function\"."},
    {"tools[].function", "object", "The function.", {}, kNeeded},
    {"tools[].function.name", "string", "Letters, digits, _, - and dots.", "tools[].function.name",
     kNeeded},
    {"tools[].function.description", "string", "For the model."},
    {"tools[].function.parameters", "object", "A JSON schema."},
    {"tools[].function.strict", "boolean", "Calls must match the schema."},
    {"tool_choice", "string|object",
     "\"none\", \"auto\", \"required\", or {\"type\": \"function\", \"function\": {\"name\"}}."},
    {"parallel_tool_calls", "boolean", "Whether an answer may hold several calls. Left out: true."},
    {"thinking", "boolean|object", "Whether the model thinks first."},
    {"thinking.type", "string", "\"enabled\" or \"disabled\"."},
    {"thinking.budget_tokens", "integer", "Most tokens of the thought.", "thinking_token_budget"},
    {"thinking_token_budget", "integer", "The same.", "thinking_token_budget"},
    {"enable_thinking", "boolean", "The same as thinking."},
    {"reasoning_effort", "string|integer",
     "How much the model thinks, in the words of its chat format; \"none\" turns it off.",
     "reasoning_effort"},
    {"effort", "string|integer", "The same.", "reasoning_effort"},
    {"chat_template_kwargs", "object", "The same under other names."},
    {"chat_template_kwargs.thinking", "boolean", "As thinking."},
    {"chat_template_kwargs.enable_thinking", "boolean", "As thinking."},
    {"chat_template_kwargs.reasoning_effort", "string", "As reasoning_effort."},
    {"include_reasoning", "boolean", "false: the thought is left out. Left out: true."},
    {"add_generation_prompt", "boolean",
     "Whether the prompt ends where the answer begins. Left out: true."},
    {"continue_final_message", "boolean", "The answer goes on with the last message."},
    {"logprobs", "boolean", "Tells the log-probability of each token."},
    {"top_logprobs", "integer", "So many rivals of each token; needs logprobs.", "top_logprobs"},
    {"prediction", "any", kNoEffect},
    {"reasoning_format", "any", kNoEffect},
    {"stream_reasoning", "any", kNoEffect},
};

constexpr ApiField kCompletion[] = {
    {"prompt", "string|array", "A text, token ids, or a list of these.", "prompt", kNeeded},
    {"suffix", "string", "What follows: the answer is what belongs between."},
    {"echo", "boolean", "The prompt stands in front of the answer."},
    {"add_special_tokens", "boolean",
     "Whether the prompt begins with the tokenizer's first token. Left out: true."},
    {"logprobs", "integer", "Tells each token's log-probability, with so many rivals.", "logprobs"},
    {"best_of", "integer", "Left out, or the same as n.", "n"},
};

constexpr ApiField kResponses[] = {
    {"model", "string", kModel, "model"},
    {"input", "string|array",
     "A text, or items: messages, function calls with their outputs, thoughts, references.",
     "input", kNeeded},
    {"instructions", "string", "What the system says, in front of all."},
    {"previous_response_id", "string", "A stored response that this one goes on with.",
     "previous_response_id"},
    {"store", "boolean",
     "Whether the response is kept, where the server keeps any. Left out: true."},
    {"metadata", "object", "Texts that the response repeats.", "metadata"},
    {"max_output_tokens", "integer", "Most tokens of the answer, its thought included.",
     "max_output_tokens"},
    {"max_tool_calls", "integer", "Counts calls of hosted tools, of which none are.",
     "max_tool_calls"},
    {"stop", "string|array", "Texts that end the answer, and are no part of it.", "stop"},
    {"tools", "array", "Functions that the model may call.", "tools"},
    {"tools[].type", "string", "\"function\".", {}, kNeeded},
    {"tools[].name", "string", "Letters, digits, _, - and dots.", "tools[].function.name", kNeeded},
    {"tools[].description", "string", "For the model."},
    {"tools[].parameters", "object", "A JSON schema."},
    {"tools[].strict", "boolean", "Calls must match the schema."},
    {"tool_choice", "string|object",
     "\"none\", \"auto\", \"required\", {\"type\": \"function\", \"name\"}, or {\"type\": "
     "\"allowed_tools\", \"mode\", \"tools\"}."},
    {"parallel_tool_calls", "boolean", "Whether an answer may hold several calls. Left out: true."},
    {"text", "object", "The shape that the answer must have."},
    {"text.format", "object",
     "{\"type\": \"text\"}, {\"type\": \"json_object\"}, or {\"type\": \"json_schema\", \"name\", "
     "\"schema\", \"strict\"}."},
    {"text.verbosity", "string", "\"medium\"."},
    {"reasoning", "object", "How the model thinks."},
    {"reasoning.effort", "string|integer",
     "How much the model thinks, in the words of its chat format; \"none\" turns it off.",
     "reasoning_effort"},
    {"reasoning.summary", "string", kNoEffect},
    {"reasoning.generate_summary", "string", kNoEffect},
    {"thinking", "boolean|object", "Whether the model thinks first."},
    {"thinking.type", "string", "\"enabled\" or \"disabled\"."},
    {"thinking.budget_tokens", "integer", "Most tokens of the thought.", "thinking_token_budget"},
    {"thinking_token_budget", "integer", "The same.", "thinking_token_budget"},
    {"enable_thinking", "boolean", "The same as thinking."},
    {"include", "array", "\"message.output_text.logprobs\"; other names have no effect.", "stop"},
    {"top_logprobs", "integer", "So many rivals of each token.", "top_logprobs"},
    {"stream", "boolean", "The answer is sent while it is generated."},
    {"stream_options", "object", "Of a stream."},
    {"stream_options.include_obfuscation", "boolean", "false: events are not padded."},
    {"user", "string", "The response repeats it."},
    {"safety_identifier", "string", "The response repeats it."},
    {"prompt_cache_key", "string", "The response repeats it."},
    {"service_tier", "any", kNoEffect},
    {"prompt_cache_retention", "any", kNoEffect},
    {"prompt_cache_options", "any", kNoEffect},
    {"access_programs", "any", kNoEffect},
    {"image", "any", kNoEffect},
    {"guided_decoding_backend", "any", kNoEffect},
};

}  // namespace

constexpr FieldGroup kSamplingFields{"Sampling", "How the next token is chosen", kSampling};
constexpr FieldGroup kControlFields{"Control", "Shape, end and order of answers", kControl};
constexpr FieldGroup kCommonFields{"Common", "Of chats and completions", kCommon};
constexpr FieldGroup kChatFields{"Chat", "Of chats", kChat};
constexpr FieldGroup kCompletionFields{"Completion", "Of completions", kCompletion};
constexpr FieldGroup kResponsesFields{"Responses", "Of responses", kResponses};

}  // namespace hadal::server
