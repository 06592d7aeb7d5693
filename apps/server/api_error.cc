#include "server/api_error.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/limits.h"

namespace hadal::server {
namespace {

/// The path in front of a message: names, dots, indices. The body as a whole is none.
std::string param_of(const std::string& message) {
  const size_t end = message.find(": ");
  if (end == std::string::npos || end == 0) return {};
  const std::string path = message.substr(0, end);
  const bool plain = std::all_of(path.begin(), path.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.' || c == '[' || c == ']' ||
           c == '"' || c == '$';
  });
  return plain && path != "request" ? path : std::string();
}

}  // namespace

ApiError api_error(const Error& error) {
  ApiError api{.message = error.message, .param = param_of(error.message)};
  switch (error.code) {
    case ErrorCode::kUsage:
      return api;
    case ErrorCode::kMemory:
      api.code = "context_length_exceeded";
      return api;
    case ErrorCode::kNotFound:
      api.status = 404;
      api.code = "not_found";
      return api;
    case ErrorCode::kBusy:
      api.status = 429;
      api.type = "rate_limit_error";
      api.code = "rate_limit_exceeded";
      api.param.clear();
      return api;
    case ErrorCode::kInterrupted:
      api.status = 503;
      api.type = api.code = "server_error";
      api.param.clear();
      return api;
    case ErrorCode::kFailed:
      break;
  }
  api.status = 500;
  api.type = api.code = "server_error";
  api.param.clear();
  return api;
}

ApiError unavailable(std::string message) {
  return {.status = 503,
          .message = std::move(message),
          .type = "server_error",
          .code = "service_unavailable"};
}

ApiError body_too_large(int64_t bytes) {
  return {.status = 413,
          .message = "the body has " + std::to_string(bytes) + " bytes, at most " +
                     std::to_string(limit("body").most) + " are read",
          .code = "request_too_large"};
}

std::string error_body(const ApiError& error) {
  using Json = nlohmann::ordered_json;
  Json inner;
  inner["message"] = error.message;
  inner["type"] = error.type;
  inner["param"] = error.param.empty() ? Json() : Json(error.param);
  inner["code"] = error.code;
  return Json{{"error", inner}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace hadal::server
