// Groups of fields: what bodies have in common is told once. openapi_operations.cc says which body
// has which; openapi_test.cc holds them against the readers.
#pragma once

#include "server/openapi.h"

namespace hadal::server {

// Of all APIs.
extern const FieldGroup kSamplingFields;  ///< read_sampling()
extern const FieldGroup kControlFields;   ///< read_logit_bias(), read_extensions(), shapes

// Of OpenAI's and DeepSeek's.
extern const FieldGroup kCommonFields;  ///< read_common(): of chats and completions
extern const FieldGroup kChatFields, kCompletionFields, kResponsesFields;

// Of Anthropic's.
extern const FieldGroup kMessagesFields;  ///< of count_tokens too
extern const FieldGroup kMessagesLength, kCountLength;

// Of Ollama's.
extern const FieldGroup kOllamaFields;  ///< of both, with the options
extern const FieldGroup kOllamaChatFields, kOllamaGenerateFields, kOllamaShowFields;

// Hadal's own.
extern const FieldGroup kTokenizeFields, kDetokenizeFields;

}  // namespace hadal::server
