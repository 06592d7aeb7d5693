// The whole server in one process, on a tiny model and real sockets: many clients at once, those
// that leave, keys, draining. What the thread sanitizer watches.
#include "server/service.h"

#include <gtest/gtest.h>

#include <thread>

#include "server/http_test_client.h"

namespace hadal::server {
namespace {

class ServiceTest : public testing::Test {
 protected:
  void SetUp() override {
    auto checkpoint = Checkpoint::open(std::filesystem::path(HADAL_GOLDEN_MODELS) / "qwen3");
    ASSERT_TRUE(checkpoint) << checkpoint.error().message;
    SessionOptions options;
    options.runner = {.device = {.threads = 1},
                      .context = 256,
                      .max_tokens = 64,
                      .max_sequences = 4,
                      .max_logit_rows = 8};
    options.chat_format = "qwen3";
    auto session = Session::open(*std::move(checkpoint), options);
    ASSERT_TRUE(session) << session.error().message;
    session_ = *std::move(session);
    engine_ = std::make_unique<EngineThread>(
        session_->engine(), EngineThread::Limits{.waiting_requests = 64, .waiting_tokens = 16384});
    store_ = *ResponseStore::open("", {});
    start(
        {.model_name = "tiny", .aliases = {"other"}, .timeout_seconds = {}, .log = {}, .note = {}});
  }

  void start(ServiceOptions options) {
    server_.reset();
    service_ = std::make_unique<Service>(std::move(options));
    auto server = HttpServer::open(
        {.port = 0}, [this](auto exchange) { service_->handle(std::move(exchange)); },
        [this](const HttpRequest& head) { return service_->gate(head); },
        [this](const HttpRequest& head, int status, const std::string& message) {
          return service_->fault(head, status, message);
        });
    ASSERT_TRUE(server) << server.error().message;
    server_ = *std::move(server);
    service_->serve({.session = session_.get(),
                     .source = engine_.get(),
                     .snapshot = [this] { return engine_->snapshot(); },
                     .http = [this] { return server_->counts(); },
                     .store = store_.get(),
                     .slots = 4});
    service_->set_ready();
  }

  void TearDown() override {
    server_.reset();
    service_.reset();
    engine_.reset();
  }

  Response ask(const std::string& method, const std::string& path, const std::string& body = {},
               const std::string& headers = {}) {
    Client client(server_->port());
    client.send(method + " " + path + " HTTP/1.1\r\nhost: localhost\r\n" + headers +
                "content-length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    return client.response();
  }
  static std::string chat(int number, bool stream) {
    return R"({"messages":[{"role":"user","content":"question )" + std::to_string(number % 7) +
           R"("}],"max_tokens":12,"temperature":0,"stream":)" + (stream ? "true" : "false") + "}";
  }

  std::unique_ptr<Session> session_;
  std::unique_ptr<EngineThread> engine_;
  std::unique_ptr<ResponseStore> store_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<HttpServer> server_;
};

std::string text_of(const Response& response) {
  const Json json = Json::parse(response.body, nullptr, false);
  return json.is_object() && json.contains("choices")
             ? json["choices"][0]["message"]["content"].dump()
             : "no answer: " + response.body;
}

TEST_F(ServiceTest, ManyAtOnceGetWhatEachGetsAlone) {
  std::vector<std::string> alone;
  for (int i = 0; i < 7; ++i)
    alone.push_back(text_of(ask("POST", "/v1/chat/completions", chat(i, false))));
  std::vector<std::thread> clients;
  std::atomic<int> answered = 0, wrong = 0;
  for (int c = 0; c < 4; ++c)
    clients.emplace_back([&, c] {
      for (int i = 0; i < 24; ++i) {
        const int number = c * 31 + i;
        if (number % 3 == 0) {  // leaves in the middle
          Client client(server_->port());
          const std::string body = chat(number, true);
          client.send("POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: " +
                      std::to_string(body.size()) + "\r\n\r\n" + body);
          continue;
        }
        const Response response =
            ask("POST", "/v1/chat/completions", chat(number, number % 2 == 0));
        ++answered;
        if (response.status != 200) ++wrong;
        if (number % 2 == 0) {
          if (response.body.find("data: [DONE]") == std::string::npos) ++wrong;
        } else if (text_of(response) != alone[static_cast<size_t>(number % 7)]) {
          ++wrong;
        }
      }
    });
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(answered, 50);
  // Those who left are forgotten within a step.
  const auto idle = [&] {
    return service_->open_calls() == 0 &&
           ask("GET", "/metrics").body.find("hadal_requests_running 0") != std::string::npos;
  };
  bool at_rest = false;
  for (int i = 0; i < 1000 && !at_rest; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    at_rest = idle();
  }
  EXPECT_TRUE(at_rest);
}

TEST_F(ServiceTest, EveryApiAnswers) {
  EXPECT_EQ(ask("POST", "/v1/completions", R"({"prompt":"ab","max_tokens":2})").status, 200);
  EXPECT_EQ(
      ask("POST", "/v1/messages", R"({"max_tokens":2,"messages":[{"role":"user","content":"a"}]})")
          .status,
      200);
  EXPECT_EQ(ask("POST", "/api/generate",
                R"({"model":"tiny","prompt":"a","stream":false,)"
                R"("options":{"num_predict":2}})")
                .status,
            200);
  const Response first = ask("POST", "/v1/responses", R"({"input":"a","max_output_tokens":2})");
  ASSERT_EQ(first.status, 200) << first.body;
  const std::string id = Json::parse(first.body)["id"];
  EXPECT_EQ(ask("GET", "/v1/responses/" + id).body, first.body);
  EXPECT_EQ(ask("DELETE", "/v1/responses/" + id).status, 200);
  EXPECT_EQ(ask("GET", "/v1/responses/" + id).status, 404);
  EXPECT_EQ(ask("POST", "/api/show", R"({"model":"other:latest"})").status, 200);
  EXPECT_EQ(ask("POST", "/v1/embeddings", R"({"input":"a"})").status, 400);
  EXPECT_EQ(ask("GET", "/v1/chat/completions").status, 405);
  EXPECT_EQ(ask("GET", "/v1/chat/completions").header("allow"), "POST");
  EXPECT_EQ(ask("GET", "/nothing").status, 404);
  EXPECT_NE(ask("GET", "/").body.find("tiny"), std::string::npos);
}

TEST_F(ServiceTest, NamesThatAreNotServedAreRefusedInTheApisForm) {
  const Response refused =
      ask("POST", "/v1/messages",
          R"({"model":"x","max_tokens":2,"messages":[{"role":"user","content":"a"}]})");
  EXPECT_EQ(refused.status, 404);
  EXPECT_EQ(Json::parse(refused.body)["error"]["type"], "not_found_error");
  for (const char* name : {"tiny", "other", "tiny:latest", "deepseek-chat", ""})
    EXPECT_EQ(ask("POST", "/v1/completions",
                  R"({"prompt":"a","max_tokens":1,"model":")" + std::string(name) + "\"}")
                  .status,
              200)
        << name;
}

TEST_F(ServiceTest, KeysOpenTheDoorAndKeepPrefixesApart) {
  service_->set_keys(std::make_shared<const KeyRing>(
      *KeyRing::parse(R"({"keys":[{"name":"a","key":"key-of-team-a-12345"},)"
                      R"({"name":"b","key":"key-of-team-b-12345","requests_per_minute":1}]})",
                      "keys")));
  EXPECT_EQ(ask("GET", "/v1/models").status, 401);
  EXPECT_EQ(ask("GET", "/v1/models", "", "authorization: Bearer wrong-key-000000\r\n").status, 401);
  EXPECT_EQ(ask("GET", "/health").status, 200);
  const std::string a = "authorization: Bearer key-of-team-a-12345\r\n";
  const std::string b = "x-api-key: key-of-team-b-12345\r\n";
  EXPECT_EQ(ask("GET", "/v1/models", "", a).status, 200);
  const std::string body = R"({"prompt":")" + std::string(120, 'x') + R"(","max_tokens":1})";
  const auto hits = [&](const std::string& key) {
    const Response response = ask("POST", "/v1/completions", body, key);
    EXPECT_EQ(response.status, 200) << response.body;
    return Json::parse(response.body)["usage"]["prompt_cache_hit_tokens"].get<int64_t>();
  };
  EXPECT_EQ(hits(a), 0);
  EXPECT_GT(hits(a), 0);
  EXPECT_EQ(hits(b), 0) << "another key's prefix was hit";
  const Response limited = ask("POST", "/v1/completions", body, b);
  EXPECT_EQ(limited.status, 429);
  EXPECT_FALSE(limited.header("retry-after").empty());
}

TEST_F(ServiceTest, ADrainingServerTakesNothingNew) {
  service_->drain();
  const Response refused = ask("POST", "/v1/completions", R"({"prompt":"a","max_tokens":1})");
  EXPECT_EQ(refused.status, 503);
  EXPECT_FALSE(refused.header("retry-after").empty());
  EXPECT_EQ(ask("GET", "/readyz").status, 503);
  EXPECT_EQ(ask("GET", "/healthz").status, 200);
}

TEST_F(ServiceTest, StrangeHostsAreRefusedWhereNobodyNeedsAKey) {
  start({.model_name = "tiny",
         .guard_host = true,
         .hosts = {"my.name"},
         .timeout_seconds = {},
         .log = {},
         .note = {}});
  const auto status = [&](const std::string& lines) {
    Client client(server_->port());
    client.send("GET /v1/models HTTP/1.1\r\n" + lines + "\r\n");
    return client.response().status;
  };
  EXPECT_EQ(status("host: localhost:8080\r\n"), 200);
  EXPECT_EQ(status("host: [::1]:1\r\n"), 200);
  EXPECT_EQ(status("host: my.name\r\n"), 200);
  EXPECT_EQ(status("host: evil.example\r\n"), 403);
  EXPECT_EQ(status("host: localhost\r\norigin: http://evil.example\r\n"), 403);
}

}  // namespace
}  // namespace hadal::server
