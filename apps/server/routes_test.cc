// Which path means what, and what a log line may hold.
#include "server/routes.h"

#include <gtest/gtest.h>

#include <set>

#include "server/request_log.h"

namespace hadal::server {
namespace {

TEST(Routes, AreFoundByMethodAndPath) {
  EXPECT_EQ(find_route("POST", "/v1/chat/completions").route->endpoint, Endpoint::kChat);
  EXPECT_EQ(find_route("POST", "/beta/completions").route->endpoint, Endpoint::kCompletions);
  EXPECT_EQ(find_route("HEAD", "/health").route->endpoint, Endpoint::kHealth);
  EXPECT_EQ(find_route("GET", "/v1/models/").route->endpoint, Endpoint::kModels);
  const RouteMatch model = find_route("GET", "/v1/models/org/name");
  EXPECT_EQ(model.route->endpoint, Endpoint::kModel);
  EXPECT_EQ(model.id, "org/name");
  EXPECT_EQ(find_route("GET", "/v1/responses/resp_1/input_items").route->endpoint,
            Endpoint::kResponseItems);
  EXPECT_EQ(find_route("POST", "/v1/responses/input_tokens").route->endpoint,
            Endpoint::kInputTokens);
  EXPECT_EQ(find_route("GET", "/v1/responses/a/b").route, nullptr);
  const RouteMatch other = find_route("PUT", "/v1/responses/resp_1");
  EXPECT_EQ(other.route, nullptr);
  EXPECT_EQ(other.allow, "GET, DELETE");
  EXPECT_EQ(find_route("GET", "/nothing").allow, "");
}

TEST(Routes, OnlyHealthIsOpen) {
  std::set<std::string_view> open;
  for (const Route& route : routes())
    if (route.open) open.insert(route.path);
  EXPECT_EQ(open,
            (std::set<std::string_view>{"/health", "/v1/health", "/healthz", "/livez", "/readyz"}));
}

TEST(RequestLog, ALineHoldsNoControlCharacters) {
  const RequestRecord record{.method = "GET",
                             .path = "/\x1b[2J\n",
                             .peer = "127.0.0.1:1",
                             .id = "a\rb",
                             .status = 404,
                             .error = "not\nfound"};
  for (const std::string& line : {text_line(record), json_line(record)})
    for (const char c : line) EXPECT_GE(static_cast<unsigned char>(c), 0x20U) << line;
  const Json json = Json::parse(json_line(record));
  EXPECT_EQ(json["status"], 404);
  EXPECT_EQ(json["path"], "/\x1b[2J\n");
  EXPECT_FALSE(json.contains("first_token_seconds"));
}

TEST(RequestLog, TraceIdsAreThoseOfTheStandard) {
  const std::string good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  EXPECT_EQ(trace_id(good), "0af7651916cd43dd8448eb211c80319c");
  for (const std::string& bad : {std::string(), good + "x", "01" + good.substr(2),
                                 "00-" + std::string(32, '0') + good.substr(35),
                                 "00-" + std::string(32, 'G') + good.substr(35)})
    EXPECT_EQ(trace_id(bad), "") << bad;
}

}  // namespace
}  // namespace hadal::server
