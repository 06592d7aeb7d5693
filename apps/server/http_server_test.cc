#include "server/http_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "server/http_test_client.h"

namespace hadal::server {
namespace {

bool within(double seconds, const std::function<bool()>& holds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

/// A server whose handler answers by the path, and what became of its exchanges.
class HttpServerTest : public testing::Test {
 protected:
  void open(HttpOptions options = {}, HttpGate gate = {}) {
    options.port = 0;
    auto opened = HttpServer::open(
        std::move(options), [this](std::shared_ptr<HttpExchange> e) { handle(std::move(e)); },
        std::move(gate),
        [](const HttpRequest& head, int status, std::string message) {
          return HttpRefusal{.status = status,
                             .content_type = "text/error",
                             .headers = {{"x-path", head.path}},
                             .body = "fault: " + message};
        });
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    server_ = *std::move(opened);
  }
  ~HttpServerTest() override {
    server_.reset();
    for (std::thread& thread : threads_) thread.join();
  }

  void handle(std::shared_ptr<HttpExchange> exchange) {
    const HttpRequest& request = exchange->request();
    if (request.path == "/hold" || request.path == "/stream") {
      exchange->on_gone([this] { ++gone_; });
      if (request.path == "/stream") exchange->begin(200, "text/event-stream", {});
      const std::lock_guard lock(mutex_);
      held_.push_back(std::move(exchange));
    } else if (request.path == "/pieces") {
      exchange->begin(200, "text/plain", {{"x-own", "1"}});
      for (const char* piece : {"one ", "", "two ", "three"}) EXPECT_TRUE(exchange->send(piece));
      exchange->finish();
      EXPECT_FALSE(exchange->send("more"));
    } else if (request.path == "/flood") {
      exchange->on_gone([this] { ++gone_; });
      exchange->begin(200, "text/plain", {});
      threads_.emplace_back([this, exchange] {
        while (exchange->send(std::string(4096, 'x')))
          most_ = std::max(most_, exchange->waiting_bytes());
        EXPECT_TRUE(exchange->gone());
        ++stopped_;
      });
    } else if (request.path == "/large") {
      exchange->respond(200, "text/plain", {}, std::string(8 << 20, 'y'));
    } else if (request.path == "/throw") {
      throw std::runtime_error("secret");
    } else if (request.path == "/later") {
      threads_.emplace_back([exchange] { exchange->respond(202, "text/plain", {}, "later"); });
    } else if (request.path != "/drop") {
      exchange->respond(
          200, "text/plain", {{"x-id", request.id}, {"x-peer", request.peer}},
          request.method + " " + request.path + "?" + request.query + "\n" + request.body);
    }
  }
  std::shared_ptr<HttpExchange> held(size_t index = 0) {
    EXPECT_TRUE(within(5, [&] {
      const std::lock_guard lock(mutex_);
      return held_.size() > index;
    }));
    const std::lock_guard lock(mutex_);
    return held_.at(index);
  }
  void let_go() {
    const std::lock_guard lock(mutex_);
    held_.clear();
  }
  Client client() { return Client(server_->port()); }
  std::string once(const std::string& bytes) {
    Client one = client();
    one.send(bytes);
    return one.read_all();
  }

  std::mutex mutex_;
  std::vector<std::shared_ptr<HttpExchange>> held_;
  std::vector<std::thread> threads_;  // of the server's one thread
  std::atomic<int> gone_ = 0, stopped_ = 0;
  int64_t most_ = 0;
  std::unique_ptr<HttpServer> server_;
};

const std::string kGet = "GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n";
std::string get(const std::string& path, const std::string& fields = "") {
  return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n";
}

TEST_F(HttpServerTest, AnswersAndKeepsTheConnection) {
  open();
  Client one = client();
  for (int i = 0; i < 3; ++i) {
    one.send(kGet);
    const Response response = one.response();
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, "GET /a?b\n");
    EXPECT_EQ(response.header("server"), "hadal");
    EXPECT_EQ(response.header("x-content-type-options"), "nosniff");
    EXPECT_EQ(response.header("cache-control"), "no-store");
    EXPECT_EQ(response.header("content-length"), "9");
    EXPECT_EQ(response.header("x-request-id"), response.header("x-id"));
    EXPECT_EQ(response.header("x-request-id").size(), 36u);
    EXPECT_EQ(response.header("date").size(), 29u);
    EXPECT_EQ(response.header("connection"), "");
    EXPECT_TRUE(response.header("x-peer").starts_with("127.0.0.1:"));
  }
  EXPECT_EQ(server_->counts().accepted, 1);
  EXPECT_EQ(server_->counts().requests, 3);
  one.send(get("/a", "X-Request-Id: mine.1\r\nConnection: close\r\n"));
  const Response last = one.response();
  EXPECT_EQ(last.header("x-request-id"), "mine.1");
  EXPECT_EQ(last.header("connection"), "close");
  EXPECT_TRUE(one.at_end());
  EXPECT_TRUE(within(5, [&] { return server_->counts().connections_open == 0; }));
}

TEST_F(HttpServerTest, ReadsBodiesOfBothKindsAndAnswersInOrder) {
  open();
  Client one = client();
  one.send("POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" + get("/later") +
           "POST /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" +
           "3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n" + get("/pieces") + kGet);
  EXPECT_EQ(one.response().body, "POST /1?\nhello");
  EXPECT_EQ(one.response().body, "later");
  EXPECT_EQ(one.response().body, "POST /2?\nabcde");
  EXPECT_EQ(one.response().body, "one two three");
  EXPECT_EQ(one.response().body, "GET /a?b\n");
}

TEST_F(HttpServerTest, SpeaksTheOldVersion) {
  open();
  const std::string plain = once("GET /a HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(plain.starts_with("HTTP/1.1 200 OK\r\n"));
  EXPECT_NE(plain.find("connection: close"), std::string::npos);
  const std::string pieces = once("GET /pieces HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(pieces.find("chunked"), std::string::npos);
  EXPECT_TRUE(pieces.ends_with("\r\n\r\none two three")) << pieces;
  Client kept = client();
  for (int i = 0; i < 2; ++i) {
    kept.send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    EXPECT_EQ(kept.response().header("connection"), "keep-alive");
  }
}

TEST_F(HttpServerTest, SendsNoBodyToHead) {
  open();
  Client one = client();
  one.send("HEAD /a HTTP/1.1\r\nHost: x\r\n\r\nHEAD /pieces HTTP/1.1\r\nHost: x\r\n\r\n" + kGet);
  EXPECT_EQ(one.response(false).header("content-length"), "9");
  EXPECT_EQ(one.response(false).header("x-own"), "1");
  EXPECT_EQ(one.response().body, "GET /a?b\n");
}

TEST_F(HttpServerTest, AsksForTheBodyOnlyWhenItWantsIt) {
  open({}, [](const HttpRequest& head) -> std::optional<HttpRefusal> {
    if (head.header("authorization") == "Bearer k") return std::nullopt;
    return HttpRefusal{.status = 401, .content_type = "text/plain", .body = "no key"};
  });
  const std::string head =
      "POST /p HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n";
  Client good = client();
  good.send(head + "Authorization: Bearer k\r\n\r\n");
  EXPECT_EQ(good.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  good.send("abc");
  EXPECT_EQ(good.response().body, "POST /p?\nabc");
  Client bad = client();
  bad.send(head + "\r\n");
  const Response refused = bad.response();
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(refused.body, "no key");
  EXPECT_EQ(refused.header("connection"), "close");
  EXPECT_TRUE(bad.at_end());
  Client again = client();  // nothing of a body is left: the connection stays
  again.send(kGet + kGet);
  EXPECT_EQ(again.response().status, 401);
  EXPECT_EQ(again.response().status, 401);
  EXPECT_EQ(server_->counts().requests, 1);
}

TEST_F(HttpServerTest, RefusesAndCloses) {
  HttpOptions options;
  options.body_bytes = 1000;
  options.header_bytes = 2000;
  options.target_bytes = 100;
  open(options);
  const std::pair<std::string, int> bad[] = {
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"GET /x HTTP/1.1\nHost: a\n\n", 400},
      {get("/x", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400},
      {get("/x", "Transfer-Encoding: chunked\r\n") + "zz\r\n", 400},
      {get("/x", "Content-Length: 1001\r\n"), 413},
      {get("/x", "Transfer-Encoding: chunked\r\n") + "FFFFF\r\n", 413},
      {get("/" + std::string(100, 'a')), 414},
      {get("/x", "X: " + std::string(2000, 'a') + "\r\n"), 431},
      {"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
      {"GET /x HTTP/2.0\r\nHost: a\r\n\r\n", 505},
  };
  for (const auto& [bytes, status] : bad) {
    Client one = client();
    one.send(bytes);
    const Response response = one.response();
    EXPECT_EQ(response.status, status) << bytes;
    EXPECT_EQ(response.header("content-type"), "text/error");
    EXPECT_EQ(response.header("connection"), "close");
    EXPECT_TRUE(response.body.starts_with("fault: ")) << response.body;
    if (bytes.starts_with("GET /x HTTP/1.1\r")) {
      EXPECT_EQ(response.header("x-path"), "/x");
    }
    EXPECT_TRUE(one.at_end());
  }
  EXPECT_EQ(server_->counts().refused, static_cast<int64_t>(std::size(bad)));
  EXPECT_EQ(server_->counts().requests, 0);
}

TEST_F(HttpServerTest, ARefusalReachesAClientThatGoesOnSending) {
  open({.body_bytes = 1000});
  Client one = client();
  one.send(get("/x", "Content-Length: 4000000\r\n") + std::string(4000000, 'a'));
  EXPECT_EQ(one.response().status, 413);
}

TEST_F(HttpServerTest, EndsWaits) {
  HttpOptions options;
  options.header_seconds = options.body_gap_seconds = 0.2;
  options.idle_seconds = 0.4;
  open(options);
  Client silent = client(), half = client(), body = client(), idle = client();
  half.send("GET / HTT");
  body.send(get("/x", "Content-Length: 5\r\n") + "abc");
  idle.send(kGet);
  EXPECT_EQ(idle.response().status, 200);
  EXPECT_EQ(silent.read_all(), "");
  EXPECT_EQ(half.response().status, 408);
  EXPECT_TRUE(half.at_end());
  EXPECT_EQ(body.response().status, 408);
  EXPECT_TRUE(idle.at_end());
  EXPECT_EQ(server_->counts().timed_out, 2);
  // a byte now and then does not prolong a head
  Client drip = client();
  std::atomic<bool> answered = false;
  std::thread dripping([&] {
    while (!answered && drip.try_send("G"))
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
  });
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(drip.response().status, 408);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
  answered = true;
  dripping.join();
}

TEST_F(HttpServerTest, TurnsConnectionsAway) {
  open({.connections = 2});
  Client first = client(), second = client();
  first.send(kGet);
  second.send(kGet);
  EXPECT_EQ(first.response().status, 200);
  EXPECT_EQ(second.response().status, 200);
  Client third = client();
  third.send(kGet);
  const Response refused = third.response();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.header("retry-after"), "1");
  EXPECT_TRUE(third.at_end());
  EXPECT_EQ(server_->counts().turned_away, 1);
  first.close();
  EXPECT_TRUE(within(5, [&] { return server_->counts().connections_open == 1; }));
  Client fourth = client();
  fourth.send(kGet);
  EXPECT_EQ(fourth.response().status, 200);
}

TEST_F(HttpServerTest, BoundsTheBodiesOfAll) {
  open({.bodies_bytes = 100000});
  Client first = client(), second = client();
  first.send("POST /hold HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" +
             std::string(60000, 'a'));
  held();
  second.send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" +
              std::string(60000, 'a'));
  EXPECT_EQ(second.response().status, 503);
  held()->respond(200, "text/plain", {}, "");
  EXPECT_EQ(first.response().status, 200);
  let_go();
  Client third = client();
  third.send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" +
             std::string(60000, 'a'));
  EXPECT_EQ(third.response().status, 200);
}

TEST_F(HttpServerTest, FlushesEachPiece) {
  open();
  Client one = client();
  one.send(get("/stream"));
  const auto exchange = held();
  EXPECT_NE(one.read_until("\r\n\r\n").find("transfer-encoding: chunked"), std::string::npos);
  for (const char* piece : {"alpha", "beta"}) {
    EXPECT_TRUE(exchange->send(piece));
    EXPECT_TRUE(one.read_until(std::string(piece) + "\r\n").ends_with(std::string(piece) + "\r\n"));
  }
  exchange->finish();
  EXPECT_EQ(one.read_until("0\r\n\r\n"), "0\r\n\r\n");
  one.send(kGet);
  EXPECT_EQ(one.response().status, 200);
  EXPECT_EQ(gone_, 0);
}

TEST_F(HttpServerTest, TellsThatAClientLeft) {
  open();
  for (const bool half : {false, true})
    for (const char* path : {"/hold", "/stream"}) {
      Client one = client();
      one.send(get(path));
      const auto exchange = held();
      EXPECT_FALSE(exchange->gone());
      if (half)
        one.shut_writing();
      else
        one.close();
      EXPECT_TRUE(within(2, [&] { return gone_ == 1; })) << path << half;
      EXPECT_TRUE(exchange->gone());
      EXPECT_FALSE(exchange->send("x"));
      exchange->respond(200, "text/plain", {}, "x");
      exchange->finish();
      bool told = false;
      exchange->on_gone([&] { told = true; });
      EXPECT_TRUE(told);
      let_go();
      gone_ = 0;
    }
  EXPECT_TRUE(server_->wait_idle(2));
  EXPECT_EQ(server_->counts().gone, 4);
}

TEST_F(HttpServerTest, TellsThatAClientLeftWhoSentAhead) {
  open();
  Client one = client();
  one.send(get("/hold"));
  held();
  std::thread sender([&] { one.try_send(std::string(80000, 'x')); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  one.shut_writing();
  sender.join();
  EXPECT_TRUE(within(5, [&] { return gone_ == 1; }));
}

TEST_F(HttpServerTest, DropsASlowReader) {
  open({.stream_bytes = 65536});
  Client one = client();
  one.send(get("/flood"));
  EXPECT_TRUE(within(10, [&] { return stopped_ == 1 && gone_ == 1; }));
  EXPECT_EQ(server_->counts().dropped_slow, 1);
  EXPECT_LE(most_, 65536);
  EXPECT_GT(most_, 30000);
  EXPECT_TRUE(server_->wait_idle(2));
  EXPECT_TRUE(one.was_reset());
}

TEST_F(HttpServerTest, EndsAWriteThatMovesNothing) {
  open({.write_gap_seconds = 0.3});
  Client one = client();
  one.send(get("/large"));
  EXPECT_TRUE(within(5, [&] { return server_->counts().dropped_slow == 1; }));
  EXPECT_TRUE(server_->wait_idle(2));
  Client two = client();
  two.send(get("/large"));
  EXPECT_EQ(two.response().body.size(), size_t{8} << 20);
}

TEST_F(HttpServerTest, AnswersForHandlersThatFail) {
  open();
  Client one = client();
  one.send(get("/drop") + get("/throw") + kGet);
  for (int i = 0; i < 2; ++i) {
    const Response response = one.response();
    EXPECT_EQ(response.status, 500);
    EXPECT_EQ(response.header("content-type"), "text/error");
    EXPECT_EQ(response.body.find("secret"), std::string::npos);
  }
  EXPECT_EQ(one.response().status, 200);
  Client two = client();
  two.send(get("/stream"));
  held()->send("begun");
  let_go();
  const std::string broken = two.read_all();
  EXPECT_TRUE(broken.ends_with("5\r\nbegun\r\n")) << broken;
  EXPECT_TRUE(server_->wait_idle(2));
}

TEST_F(HttpServerTest, ClosesTheDoorAndDrains) {
  open();
  Client idle = client(), busy = client();
  idle.send(kGet);
  EXPECT_EQ(idle.response().status, 200);
  busy.send(get("/hold"));
  const auto exchange = held();
  server_->close_door();
  EXPECT_TRUE(idle.at_end());
  EXPECT_TRUE(within(2, [&] { return Client(server_->port()).at_end(); }));
  EXPECT_FALSE(server_->wait_idle(0.05));
  exchange->respond(200, "text/plain", {}, "end");
  EXPECT_TRUE(server_->wait_idle(2));
  EXPECT_EQ(busy.response().body, "end");
  EXPECT_TRUE(busy.at_end());
}

TEST_F(HttpServerTest, EndsWithExchangesOpen) {
  open({.threads = 3});
  Client one = client(), two = client();
  one.send(get("/hold"));
  two.send(get("/stream"));
  const auto first = held(0), second = held(1);
  server_.reset();
  EXPECT_EQ(gone_, 2);
  EXPECT_FALSE(first->send("x"));
  EXPECT_FALSE(second->send("x"));
  let_go();
}

TEST_F(HttpServerTest, ServesThreadsThatShareAStream) {
  open({.stream_bytes = 1 << 24, .threads = 3});
  Client one = client();
  one.send(get("/stream"));
  const auto exchange = held();
  constexpr int kThreads = 4, kPieces = 500;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < kPieces; ++i)
          EXPECT_TRUE(exchange->send(std::string(1, static_cast<char>('a' + t))));
      });
  }
  exchange->finish();
  const std::string body = one.response().body;
  EXPECT_EQ(body.size(), size_t{kThreads} * kPieces);
  EXPECT_EQ(std::count(body.begin(), body.end(), 'b'), kPieces);
}

TEST_F(HttpServerTest, OutlivesManyThatLeave) {
  open({.threads = 2});
  for (int i = 0; i < 200; ++i) {
    Client one = client();
    const std::string path = i % 2 == 0 ? "/hold" : "/stream";
    if (i % 3 == 0)
      one.send(get(path).substr(0, static_cast<size_t>(i % 30)));
    else
      one.send(get(path));
    if (i % 5 == 0) one.reset();
  }
  EXPECT_TRUE(within(10, [&] { return server_->counts().connections_open == 0; }));
  EXPECT_TRUE(server_->wait_idle(5));
  EXPECT_EQ(server_->counts().exchanges_open, 0);
  Client one = client();
  one.send(kGet);
  EXPECT_EQ(one.response().status, 200);
}

TEST_F(HttpServerTest, BelievesOnlyProxiesThatAreNamed) {
  const std::string forwarded =
      get("/a", "X-Forwarded-For: 6.6.6.6, 9.9.9.9\r\nX-Forwarded-For: 10.0.0.1\r\n");
  open();
  Client direct = client();
  direct.send(forwarded);
  EXPECT_TRUE(direct.response().header("x-peer").starts_with("127.0.0.1:"));
  server_.reset();
  open({.trusted_proxies = {"127.0.0.1", "10.0.0.1"}});
  Client behind = client();
  behind.send(forwarded);
  EXPECT_EQ(behind.response().header("x-peer"), "9.9.9.9");
  behind.send(get("/a", "X-Forwarded-For: nonsense\r\n"));
  EXPECT_TRUE(behind.response().header("x-peer").starts_with("127.0.0.1:"));
  behind.send(get("/a", "X-Forwarded-For: [2001:db8::1]:4\r\n"));
  EXPECT_EQ(behind.response().header("x-peer"), "2001:db8::1");
}

TEST_F(HttpServerTest, SaysWhyItDoesNotOpen) {
  open();
  const auto message = [](HttpOptions options) {
    const auto opened =
        HttpServer::open(std::move(options), [](const std::shared_ptr<HttpExchange>&) {}, {}, {});
    return opened ? "" : opened.error().message;
  };
  const std::string port = std::to_string(server_->port());
  EXPECT_EQ(message({.port = server_->port()}),
            "port " + port +
                " of 127.0.0.1 is in use by another program: choose another port, or "
                "end that one");
  EXPECT_NE(message({.host = "no.such.host.invalid", .port = 0}).find("not known"),
            std::string::npos);
  EXPECT_NE(message({.host = "192.0.2.1", .port = 0}).find("no address of this machine"),
            std::string::npos);
  EXPECT_NE(message({.port = 0, .certificate_file = "/x"}).find("the key is missing"),
            std::string::npos);
  EXPECT_NE(message({.port = 0, .certificate_file = "/no/x", .key_file = "/no/y"}).find("/no/x"),
            std::string::npos);
  EXPECT_NE(message({.port = 0, .threads = 0}).find("threads"), std::string::npos);
  EXPECT_NE(message({.port = 0, .trusted_proxies = {"proxy"}}).find("\"proxy\""),
            std::string::npos);
}

TEST_F(HttpServerTest, SpeaksTls) {
  const TestCertificate files;
  HttpOptions options = {.certificate_file = files.certificate(), .key_file = files.key()};
  options.header_seconds = 1;
  open(options);
  TlsClient one(server_->port());
  ASSERT_TRUE(one.shaken());
  for (int i = 0; i < 2; ++i) {
    one.send(get("/pieces"));
    EXPECT_TRUE(one.read_until("0\r\n\r\n").ends_with("three\r\n0\r\n\r\n"));
  }
  one.send(get("/large", "Connection: close\r\n"));
  EXPECT_GT(one.read_all().size(), size_t{8} << 20);
  EXPECT_TRUE(one.ended_well());
  TlsClient old(server_->port(), 0x0302);  // TLS 1.1
  EXPECT_FALSE(old.shaken());
  TlsClient leaver(server_->port());
  leaver.send(get("/hold"));
  held();
  leaver.close();
  EXPECT_TRUE(within(2, [&] { return gone_ == 1; }));
  TlsClient bad(server_->port());
  bad.send("NONSENSE\r\n\r\n");
  EXPECT_TRUE(bad.read_all().starts_with("HTTP/1.1 400 "));
  Client silent = client(), plain = client();
  plain.send(kGet);
  EXPECT_EQ(plain.read_all().find("HTTP/"), std::string::npos);
  EXPECT_TRUE(silent.at_end());  // after header_seconds
}

}  // namespace
}  // namespace hadal::server
