// Errors as the OpenAI and DeepSeek APIs tell them: an HTTP status and
// {"error": {"message", "type", "param", "code"}}.
//
// Inside, errors are hadal::Error; whoever answers a request turns one into this at the end.
// `param` is the path that stands in front of the message ("messages[3].content: …"); `code` is
// text, as DeepSeek has it. A status of 500 keeps its message, which may name files: who serves
// strangers logs it and says less.
#pragma once

#include <string>

#include "base/result.h"

namespace hadal::server {

struct ApiError {
  int status = 400;
  std::string message = {};
  std::string type = "invalid_request_error";
  std::string param = {};  ///< "": none
  std::string code = "invalid_request_error";
};

/// kUsage is 400, kMemory (longer than the context) 400 with the code context_length_exceeded,
/// kNotFound 404, kBusy 429, kInterrupted 503, kFailed 500.
ApiError api_error(const Error& error);

/// 503: it is not the request's fault, and asked again it may succeed.
ApiError unavailable(std::string message);

/// 413, of a body whose bytes pass the table's row "body".
ApiError body_too_large(int64_t bytes);

/// The JSON text of the response's body.
std::string error_body(const ApiError& error);

}  // namespace hadal::server
