#include "server/routes.h"

namespace hadal::server {
namespace {

using enum Endpoint;

// DeepSeek's clients come with the base URLs "", "/v1" and "/beta", its Anthropic ones with
// "/anthropic".
constexpr Route kRoutes[] = {
    {"GET", "/", kFront},
    {"GET", "/docs", kDocs},
    {"GET", "/openapi.json", kOpenApi},
    {"GET", "/health", kHealth, ApiKind::kOpenAi, true},
    {"GET", "/v1/health", kHealth, ApiKind::kOpenAi, true},
    {"GET", "/healthz", kAlive, ApiKind::kOpenAi, true},
    {"GET", "/livez", kAlive, ApiKind::kOpenAi, true},
    {"GET", "/readyz", kReady, ApiKind::kOpenAi, true},
    {"GET", "/metrics", kMetrics},
    {"GET", "/v1/models", kModels},
    {"GET", "/models", kModels},
    {"GET", "/beta/models", kModels},
    {"GET", "/v1/models/{id}", kModel},
    {"GET", "/models/{id}", kModel},
    {"POST", "/v1/chat/completions", kChat},
    {"POST", "/chat/completions", kChat},
    {"POST", "/beta/chat/completions", kChat},
    {"POST", "/beta/v1/chat/completions", kChat},
    {"POST", "/v1/completions", kCompletions},
    {"POST", "/completions", kCompletions},
    {"POST", "/beta/completions", kCompletions},
    {"POST", "/beta/v1/completions", kCompletions},
    {"POST", "/v1/responses", kResponses},
    {"POST", "/v1/responses/input_tokens", kInputTokens},
    {"GET", "/v1/responses/{id}", kResponse},
    {"DELETE", "/v1/responses/{id}", kResponseDelete},
    {"GET", "/v1/responses/{id}/input_items", kResponseItems},
    {"POST", "/v1/responses/{id}/cancel", kResponseCancel},
    {"POST", "/v1/embeddings", kEmbeddings},
    {"POST", "/embeddings", kEmbeddings},
    {"POST", "/v1/messages", kMessages, ApiKind::kAnthropic},
    {"POST", "/v1/messages/count_tokens", kCountTokens, ApiKind::kAnthropic},
    {"POST", "/anthropic/v1/messages", kMessages, ApiKind::kAnthropic},
    {"POST", "/anthropic/v1/messages/count_tokens", kCountTokens, ApiKind::kAnthropic},
    {"GET", "/anthropic/v1/models", kModels, ApiKind::kAnthropic},
    {"GET", "/anthropic/v1/models/{id}", kModel, ApiKind::kAnthropic},
    {"POST", "/api/chat", kOllamaChat, ApiKind::kOllama},
    {"POST", "/api/generate", kOllamaGenerate, ApiKind::kOllama},
    {"GET", "/api/tags", kOllamaTags, ApiKind::kOllama},
    {"POST", "/api/show", kOllamaShow, ApiKind::kOllama},
    {"GET", "/api/ps", kOllamaPs, ApiKind::kOllama},
    {"GET", "/api/version", kOllamaVersion, ApiKind::kOllama},
    {"POST", "/api/embed", kEmbeddings, ApiKind::kOllama},
    {"POST", "/api/embeddings", kEmbeddings, ApiKind::kOllama},
    {"POST", "/tokenize", kTokenize},
    {"POST", "/detokenize", kDetokenize},
};

/// What stands for {id}, where the path is of this form. A model's name may hold slashes.
std::optional<std::string> match(const Route& route, std::string_view path) {
  const size_t open = route.path.find("{id}");
  if (open == std::string_view::npos)
    return path == route.path ? std::optional<std::string>("") : std::nullopt;
  const std::string_view before = route.path.substr(0, open);
  const std::string_view after = route.path.substr(open + 4);
  if (path.size() <= before.size() + after.size() || !path.starts_with(before) ||
      !path.ends_with(after))
    return std::nullopt;
  const std::string_view id =
      path.substr(before.size(), path.size() - before.size() - after.size());
  const bool one = id.find('/') == std::string_view::npos;
  if (!one && route.endpoint != kModel) return std::nullopt;
  return std::string(id);
}

}  // namespace

std::span<const Route> routes() { return kRoutes; }

RouteMatch find_route(std::string_view method, std::string_view path) {
  if (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  RouteMatch found;
  for (const Route& route : kRoutes) {
    auto id = match(route, path);
    if (!id) continue;
    if (route.method == method || (method == "HEAD" && route.method == "GET"))
      return {.route = &route, .id = *std::move(id), .allow = {}};
    if (found.allow.find(route.method) == std::string::npos)
      found.allow += (found.allow.empty() ? "" : ", ") + std::string(route.method);
  }
  return found;
}

ApiKind api_of(std::string_view path) {
  if (path.starts_with("/api/")) return ApiKind::kOllama;
  if (path.starts_with("/anthropic") || path.starts_with("/v1/messages"))
    return ApiKind::kAnthropic;
  return ApiKind::kOpenAi;
}

}  // namespace hadal::server
