// Routes: every path that the server answers, in one table.
//
// Owns which method and path means what, in whose API's shape its errors are told, and whether it
// needs a key. The walk of all routes in the tests, the OpenAPI description and the front page read
// this table; nothing is answered that is not in it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace hadal::server {

/// Whose errors and answers a path has.
enum class ApiKind : uint8_t { kOpenAi, kAnthropic, kOllama };

enum class Endpoint : uint8_t {
  kFront,
  kDocs,
  kOpenApi,
  kHealth,  ///< 503 until the model can answer
  kAlive,   ///< the process lives
  kReady,   ///< 503 until the model can answer, and while the server drains
  kMetrics,
  kModels,
  kModel,
  kChat,
  kCompletions,
  kResponses,
  kResponse,
  kResponseDelete,
  kResponseItems,
  kResponseCancel,
  kInputTokens,
  kMessages,
  kCountTokens,
  kOllamaChat,
  kOllamaGenerate,
  kOllamaTags,
  kOllamaShow,
  kOllamaPs,
  kOllamaVersion,
  kTokenize,
  kDetokenize,
  kEmbeddings,  ///< refused in words
};

struct Route {
  std::string_view method;
  std::string_view path;  ///< "{id}" stands for one segment
  Endpoint endpoint;
  ApiKind api = ApiKind::kOpenAi;
  bool open = false;  ///< needs no key
};

std::span<const Route> routes();

struct RouteMatch {
  const Route* route = nullptr;  ///< null: no such path, or not by this method
  std::string id;                ///< what stands for {id}
  std::string allow;             ///< methods that the path has, where this one is not among them
};
/// HEAD is answered as GET.
RouteMatch find_route(std::string_view method, std::string_view path);

/// Whose errors a path has, also one that is in no table.
ApiKind api_of(std::string_view path);

}  // namespace hadal::server
