#include "server/openapi_fields.h"

namespace hadal::server {
namespace {

using enum Endpoint;

constexpr std::string_view kHtml = "text/html", kText = "text/plain", kJson = "application/json";
constexpr std::string_view kEvents = "text/event-stream", kLines = "application/x-ndjson";

constexpr ApiOperation kOperations[] = {
    {.endpoint = kFront,
     .name = "getFrontPage",
     .title = "Front page",
     .text = "What is served, and how to call it.",
     .answer = kHtml},
    {.endpoint = kDocs,
     .name = "getDocs",
     .title = "Description for people",
     .text = "All paths and fields.",
     .answer = kHtml},
    {.endpoint = kOpenApi,
     .name = "getOpenApi",
     .title = "Description for programs",
     .text = "All paths and fields, as OpenAPI 3.1."},
    {.endpoint = kHealth,
     .name = "getHealth",
     .title = "Health",
     .text = "200 once the model can answer, 503 before."},
    {.endpoint = kAlive,
     .name = "getAlive",
     .title = "Life",
     .text = "200 as long as the process lives."},
    {.endpoint = kReady,
     .name = "getReady",
     .title = "Readiness",
     .text = "200 while new calls are taken: not before the model can answer, and not while the "
             "server stops."},
    {.endpoint = kMetrics,
     .name = "getMetrics",
     .title = "Metrics",
     .text = "Counters and times in Prometheus' text format.",
     .answer = kText},
    {.endpoint = kModels,
     .name = "listModels",
     .title = "Models",
     .text = "The names that a call may give as its model: the model, its aliases, its adapters."},
    {.endpoint = kModel,
     .name = "getModel",
     .title = "One model",
     .text = "What the list tells of it. A name may hold slashes."},
    {.endpoint = kChat,
     .name = "createChatCompletion",
     .title = "Chat",
     .text = "Answers the last message of a conversation. The API is OpenAI's and DeepSeek's, with "
             "vLLM's fields.",
     .body = {{{&kChatFields}, {&kCommonFields}, {&kSamplingFields}, {&kControlFields}}},
     .stream = kEvents},
    {.endpoint = kCompletions,
     .name = "createCompletion",
     .title = "Completion",
     .text = "Goes on with a text, or fills its middle. An answer has 16 tokens where none are "
             "named.",
     .body = {{{&kCompletionFields}, {&kCommonFields}, {&kSamplingFields}, {&kControlFields}}},
     .stream = kEvents},
    {.endpoint = kResponses,
     .name = "createResponse",
     .title = "Response",
     .text = "Answers a text or a list of items, and keeps the response where the server has a "
             "store. The API is OpenAI's.",
     .body = {{{&kResponsesFields}, {&kSamplingFields}, {&kControlFields}}},
     .stream = kEvents},
    {.endpoint = kInputTokens,
     .name = "countInputTokens",
     .title = "Tokens of a response's input",
     .text = "How many tokens the same body would have as a prompt. Nothing is generated.",
     .body = {{{&kResponsesFields}, {&kSamplingFields}, {&kControlFields}}}},
    {.endpoint = kResponse,
     .name = "getResponse",
     .title = "Stored response",
     .text = "A response that was kept, as it was given."},
    {.endpoint = kResponseDelete,
     .name = "deleteResponse",
     .title = "Delete a response",
     .text = "Erases a response that was kept."},
    {.endpoint = kResponseItems,
     .name = "listInputItems",
     .title = "Items of a response",
     .text = "What a stored response answered."},
    {.endpoint = kResponseCancel,
     .name = "cancelResponse",
     .title = "Cancel a response",
     .text = "Refused: no response runs in the background. Close the connection instead.",
     .answer = {}},
    {.endpoint = kMessages,
     .name = "createMessage",
     .title = "Message",
     .text = "Answers the last message of a conversation. The API is Anthropic's.",
     .body = {{{&kMessagesFields}, {&kMessagesLength}, {&kSamplingFields}, {&kControlFields}}},
     .stream = kEvents},
    {.endpoint = kCountTokens,
     .name = "countTokens",
     .title = "Tokens of a message",
     .text = "How many tokens the same body would have as a prompt. Nothing is generated.",
     .body = {{{&kMessagesFields}, {&kCountLength}, {&kSamplingFields}, {&kControlFields}}}},
    {.endpoint = kOllamaChat,
     .name = "ollamaChat",
     .title = "Chat, by Ollama's API",
     .text = "Answers the last message of a conversation, one object a line.",
     .body = {{{&kOllamaChatFields},
               {&kOllamaFields},
               {&kSamplingFields, "options"},
               {&kControlFields}}},
     .stream = kLines},
    {.endpoint = kOllamaGenerate,
     .name = "ollamaGenerate",
     .title = "Generate, by Ollama's API",
     .text = "Answers a prompt, goes on with it, or fills its middle; one object a line.",
     .body = {{{&kOllamaGenerateFields},
               {&kOllamaFields},
               {&kSamplingFields, "options"},
               {&kControlFields}}},
     .stream = kLines},
    {.endpoint = kOllamaTags,
     .name = "ollamaTags",
     .title = "Models, by Ollama's API",
     .text = "The model and its adapters."},
    {.endpoint = kOllamaShow,
     .name = "ollamaShow",
     .title = "One model, by Ollama's API",
     .text = "What is known of the model: its sizes, its template, what it can do.",
     .body = {{{&kOllamaShowFields}}}},
    {.endpoint = kOllamaPs,
     .name = "ollamaPs",
     .title = "Running models, by Ollama's API",
     .text = "The model, and the memory that it takes."},
    {.endpoint = kOllamaVersion,
     .name = "ollamaVersion",
     .title = "Version, by Ollama's API",
     .text = "The version of Ollama whose API this is, and Hadal's own."},
    {.endpoint = kTokenize,
     .name = "tokenize",
     .title = "Split a text into tokens",
     .text = "Token ids of a text, or of a chat's prompt.",
     .body = {{{&kTokenizeFields}}}},
    {.endpoint = kDetokenize,
     .name = "detokenize",
     .title = "Join tokens to a text",
     .text = "The text of token ids.",
     .body = {{{&kDetokenizeFields}}}},
    {.endpoint = kEmbeddings,
     .name = "createEmbedding",
     .title = "Embeddings",
     .text = "Refused: the model generates text, it has no embeddings.",
     .answer = {}},
};

}  // namespace

std::span<const ApiOperation> api_operations() { return kOperations; }

const ApiOperation& operation_of(Endpoint endpoint) {
  for (const ApiOperation& operation : kOperations)
    if (operation.endpoint == endpoint) return operation;
  HADAL_CHECK(false);
  return kOperations[0];
}

std::span<const GroupUse> ApiOperation::groups() const {
  size_t count = 0;
  while (count < body.size() && body[count].group) ++count;
  return std::span(body).first(count);
}

}  // namespace hadal::server
