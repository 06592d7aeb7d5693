#include "server/http_request.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/http_response.h"

namespace hadal::server {
namespace {

constexpr HttpHeadLimits kSmall = {.header_bytes = 4096, .headers = 10, .target_bytes = 256};
using State = HttpRequestReader::State;

/// Feeds all of `bytes` in pieces of `step`; what was not taken is `rest`.
HttpRequestReader fed(std::string_view bytes, size_t step = 1 << 20, std::string* rest = nullptr,
                      int64_t body_bytes = 1000) {
  HttpRequestReader reader(kSmall, body_bytes);
  std::string waiting;
  for (size_t at = 0; at < bytes.size(); at += step) {
    waiting += bytes.substr(at, step);
    while (const size_t taken = reader.feed(waiting)) waiting.erase(0, taken);
  }
  if (rest != nullptr) *rest = waiting;
  return reader;
}

int status_of(std::string_view bytes, int64_t body_bytes = 1000) {
  HttpRequestReader reader = fed(bytes, 1 << 20, nullptr, body_bytes);
  const HttpRequestReader slow = fed(bytes, 1, nullptr, body_bytes);
  EXPECT_EQ(reader.state(), slow.state()) << bytes;
  EXPECT_EQ(reader.fault() ? reader.fault()->message : "",
            slow.fault() ? slow.fault()->message : "");
  if (reader.fault()) return reader.fault()->status;
  return reader.state() == State::kDone ? 200 : 0;
}

std::string get(std::string_view line, std::string_view fields = "") {
  return std::string(line) + "\r\nHost: a\r\n" + std::string(fields) + "\r\n";
}

TEST(HttpRequestReader, ReadsARequestHoweverItIsCut) {
  const std::string bytes =
      "\r\nPOST /v1/a%20b%C3%A9?x=%20&y HTTP/1.1\r\nHost: example.org:80\r\nX-One:  two words "
      "\t\r\n"
      "x-request-id: abc-1.2_3\r\nContent-Length: 5\r\n\r\nhelloGET /";
  for (size_t step = 1; step < bytes.size(); ++step) {
    std::string rest;
    HttpRequestReader reader = fed(bytes, step, &rest);
    ASSERT_EQ(reader.state(), State::kDone) << step;
    const HttpRequest& request = reader.head().request;
    EXPECT_EQ(request.method, "POST");
    EXPECT_EQ(request.path, "/v1/a b\xC3\xA9");
    EXPECT_EQ(request.query, "x=%20&y");
    EXPECT_EQ(request.header("x-one"), "two words");
    EXPECT_EQ(request.header("x-two"), "");
    EXPECT_EQ(request.id, "abc-1.2_3");
    EXPECT_EQ(request.body, "hello");
    EXPECT_EQ(rest, "GET /");
    EXPECT_TRUE(reader.head().keep_alive);
  }
}

TEST(HttpRequestReader, StopsBehindTheHead) {
  HttpRequestReader reader(kSmall, 100);
  const std::string head = get("POST / HTTP/1.1", "Content-Length: 3\r\n");
  EXPECT_FALSE(reader.began());
  EXPECT_EQ(reader.feed(head + "abc"), head.size());
  EXPECT_EQ(reader.state(), State::kBody);
  EXPECT_TRUE(reader.began());
  EXPECT_EQ(reader.feed("abcd"), 3u);
  EXPECT_EQ(reader.state(), State::kDone);
}

TEST(HttpRequestReader, RefusesLinesThatReadersDifferAbout) {
  for (const std::string& bytes : std::vector<std::string>{
           "GET / HTTP/1.1\nHost: a\n\n",
           "GET / HTTP/1.1\r\nHost: a\n\r\n",
           "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
           "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
           get("GET / HTTP/1.1", "X: a\r\n b\r\n"),
           get("GET / HTTP/1.1", "X : a\r\n"),
           get("GET / HTTP/1.1", " X: a\r\n"),
           get("GET / HTTP/1.1", "X\r\n"),
           get("GET / HTTP/1.1", ": a\r\n"),
           get("GET / HTTP/1.1", std::string("X: a\0b\r\n", 8)),
           get("GET / HTTP/1.1", "X: a\x1b[1m\r\n"),
           get("GET / HTTP/1.1", "X\xC3\xA9: a\r\n"),
           get("GET  HTTP/1.1"),
           get("GET / /b HTTP/1.1"),
           get("GET /"),
           get("GET / HTTP/1.1 "),
           get("GET / http/1.1"),
           get("GET\t/ HTTP/1.1"),
           get("G(T / HTTP/1.1"),
           get(" GET / HTTP/1.1"),
           "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
           std::string("\x16\x03\x01\x02", 4),
       })
    EXPECT_EQ(status_of(bytes), 400) << bytes;
  EXPECT_EQ(status_of(get("GET / HTTP/1.1", "X: a\tb \xC3\xA9\r\n")), 200);
}

TEST(HttpRequestReader, RefusesHostsThatAreMissingOrTwo) {
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.0\r\n\r\n"), 200);
  EXPECT_EQ(status_of(get("GET / HTTP/1.1", "Host: a\r\n")), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), 200);
}

TEST(HttpRequestReader, RefusesWhatSmuggles) {
  const auto post = [](std::string_view fields, std::string_view version = "1.1") {
    return status_of(get("POST / HTTP/" + std::string(version), fields));
  };
  const std::string chunked = "Transfer-Encoding: chunked\r\n";
  EXPECT_EQ(post("Content-Length: 3\r\n" + chunked), 400);
  EXPECT_EQ(post(chunked + "Content-Length: 3\r\n"), 400);
  EXPECT_EQ(post("Content-Length: 3\r\nContent-Length: 4\r\n"), 400);
  EXPECT_EQ(post("Content-Length: 3\r\nContent-Length: 3\r\n"), 400);
  for (const char* length : {"", "-1", "+3", "3, 3", "0x3", "3 3", "3a", "9999999999999999999"})
    EXPECT_EQ(post("Content-Length: " + std::string(length) + "\r\n"), 400) << length;
  EXPECT_EQ(post(chunked + chunked), 400);
  EXPECT_EQ(post(chunked, "1.0"), 400);
  for (const char* coding :
       {"gzip", "gzip, chunked", "chunked, identity", "identity", "", "xchunked", "chunked;q=1",
        "\x0b"
        "chunked"})
    EXPECT_EQ(post("Transfer-Encoding: " + std::string(coding) + "\r\n"), 400) << coding;
  EXPECT_EQ(post("Content-Length: 0\r\n"), 200);
  EXPECT_EQ(post("Transfer-Encoding: CHUNKED\r\n"), 0);  // and waits for the body
}

TEST(HttpRequestReader, RefusesPathsThatLeaveOrHide) {
  for (const char* target :
       {"/a/../b",    "/..",     "/.",         "/%2e%2E/b", "/a/%2e", "/a%2f..%2fb", "/a%00b",
        "/a%0ab",     "/a%7f",   "/a%5cb",     "/a\\b",     "/%ff",   "/%C3",        "/%C2%85",
        "/%ED%A0%80", "/%c0%af", "/%4",        "/%",        "/%zz",   "a",           "",
        "#",          "/a#b",    "/a\xC3\xA9", "ftp://a/",  "*",      "http:/a"})
    EXPECT_EQ(status_of(get("GET " + std::string(target) + " HTTP/1.1")), 400) << target;
  const auto path = [](const std::string& target) {
    return fed(get("GET " + target + " HTTP/1.1")).head().request.path;
  };
  EXPECT_EQ(path("/a/..b/%252e%252e/.c"), "/a/..b/%2e%2e/.c");
  EXPECT_EQ(path("/v1/models/org%2Fname"), "/v1/models/org/name");
  EXPECT_EQ(path("HTTP://a.org/x?y"), "/x");
  EXPECT_EQ(path("http://a.org?y"), "/");
  EXPECT_EQ(path("http://a.org"), "/");
  EXPECT_EQ(status_of(get("OPTIONS * HTTP/1.1")), 200);
}

TEST(HttpRequestReader, KeepsItsLimits) {
  EXPECT_EQ(status_of(get("GET /" + std::string(255, 'a') + " HTTP/1.1")), 200);
  EXPECT_EQ(status_of(get("GET /" + std::string(256, 'a') + " HTTP/1.1")), 414);
  EXPECT_EQ(status_of("GET /" + std::string(400, 'a')), 414);  // before its line ends
  std::string fields;
  for (int i = 0; i < 9; ++i) fields += "X: a\r\n";
  EXPECT_EQ(status_of(get("GET / HTTP/1.1", fields)), 200);
  EXPECT_EQ(status_of(get("GET / HTTP/1.1", fields + "X: a\r\n")), 431);
  const size_t others = get("GET / HTTP/1.1", "X: \r\n").size();
  EXPECT_EQ(status_of(get("GET / HTTP/1.1", "X: " + std::string(4096 - others, 'a') + "\r\n")),
            200);
  EXPECT_EQ(status_of(get("GET / HTTP/1.1", "X: " + std::string(4097 - others, 'a') + "\r\n")),
            431);
  EXPECT_EQ(status_of(get("POST / HTTP/1.1", "Content-Length: 1000\r\n") + std::string(1000, 'a')),
            200);
  EXPECT_EQ(status_of(get("POST / HTTP/1.1", "Content-Length: 1001\r\n")), 413);
}

TEST(HttpRequestReader, SaysWhatItDoesNotSpeak) {
  EXPECT_EQ(status_of(get("BREW / HTTP/1.1")), 501);
  EXPECT_EQ(status_of(get("get / HTTP/1.1")), 501);
  EXPECT_EQ(status_of(get("CONNECT a:1 HTTP/1.1")), 501);
  EXPECT_EQ(status_of("PRI * HTTP/2.0\r\n\r\n"), 505);
  EXPECT_EQ(status_of(get("GET / HTTP/0.9")), 505);
  EXPECT_EQ(status_of(get("GET / HTTP/1.2")), 505);
  EXPECT_EQ(status_of(get("POST / HTTP/1.1", "Expect: tea\r\n")), 417);
}

TEST(HttpRequestReader, TellsThePathOfABadHead) {
  EXPECT_EQ(fed(get("POST /v1/x HTTP/1.1", "a b: c\r\n")).head().request.path, "/v1/x");
  EXPECT_EQ(fed("POST /v1/x HTTP/1.1\r\nHost: \x01").head().request.path, "/v1/x");
  const HttpRequestReader bad = fed(get("POST /v1/x HTTP/1.1", "secret b: c\r\n"));
  EXPECT_EQ(bad.fault()->message.find("secret"), std::string::npos);
}

TEST(HttpRequestReader, KnowsWhoStays) {
  const auto keeps = [](std::string_view line, std::string_view fields) {
    return fed(get(line, fields)).head().keep_alive;
  };
  EXPECT_TRUE(keeps("GET / HTTP/1.1", ""));
  EXPECT_FALSE(keeps("GET / HTTP/1.1", "Connection: x, Close\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.0", ""));
  EXPECT_TRUE(keeps("GET / HTTP/1.0", "Connection: Keep-Alive\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.1", "Connection: keep-alive\r\nConnection: close\r\n"));
  EXPECT_EQ(status_of(get("GET / HTTP/1.1", "Connection: a b\r\n")), 400);
}

const std::string kChunked = get("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n");

TEST(ChunkReader, ReadsChunksHoweverTheyAreCut) {
  const std::string bytes =
      kChunked +
      "5\r\nhello\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\nGET";
  for (size_t step = 1; step < bytes.size(); ++step) {
    std::string rest;
    HttpRequestReader reader = fed(bytes, step, &rest);
    ASSERT_EQ(reader.state(), State::kDone) << step;
    EXPECT_EQ(reader.head().request.body, "hello0123456789");
    EXPECT_EQ(rest, "GET");
  }
}

TEST(ChunkReader, RefusesWhatReadersDifferAbout) {
  for (const char* body : {"\r\n",
                           "x\r\n",
                           "5\nhello",
                           "5\r\nhellox",
                           "5\r\nhello\n",
                           "-5\r\n",
                           "0x5\r\n",
                           " 5\r\n",
                           "5 \r\n",
                           "5 ;x\r\n",
                           "5\r\rhello",
                           "5;a\nhello",
                           "5;a\x01\r\n",
                           "0000000000000001\r\n",
                           "0\r\n\n",
                           "0\r\nA\n",
                           "0\r\nA: b\x01\r",
                           "0\r\nA b: c\r",
                           "0\r\nA\r",
                           "0\r\nContent-Length: 5\r",
                           "0\r\nA: b\r\n c\r",
                           "0\r\n\rX"})
    EXPECT_EQ(status_of(kChunked + body), 400) << body;
}

TEST(ChunkReader, KeepsItsLimits) {
  std::string ones;
  for (int i = 0; i < 1000; ++i) ones += "1\r\na\r\n";
  EXPECT_EQ(status_of(kChunked + ones + "0\r\n\r\n"), 200);
  EXPECT_EQ(status_of(kChunked + ones + "1\r\n"), 413);
  EXPECT_EQ(status_of(kChunked + "3e8\r\n" + std::string(1000, 'a') + "\r\n0\r\n\r\n"), 200);
  EXPECT_EQ(status_of(kChunked + "3e9"), 413);
  EXPECT_EQ(status_of(kChunked + "FFFFFFFFFFFFFFF"), 413);
  std::string extensions;
  for (int i = 0; i < 50; ++i) extensions += "1;" + std::string(90, 'x') + "\r\na\r\n";
  EXPECT_EQ(status_of(kChunked + extensions), 400);
  EXPECT_EQ(status_of(kChunked + "0\r\n" + std::string(5000, 'x')), 431);
}

TEST(HttpHead, HoldsWhatEveryResponseHas) {
  const std::string head =
      http_head({.status = 404, .content_type = "text/plain", .id = "i", .length = 3}, {});
  EXPECT_TRUE(head.starts_with("HTTP/1.1 404 Not Found\r\ndate: ")) << head;
  EXPECT_TRUE(head.ends_with("\r\n\r\n"));
  for (const char* field : {"server: hadal", "x-request-id: i", "x-content-type-options: nosniff",
                            "cache-control: no-store", "content-length: 3"})
    EXPECT_NE(head.find("\r\n" + std::string(field) + "\r\n"), std::string::npos) << field;
  EXPECT_EQ(http_date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
}

TEST(HttpHead, LeavesOutWhatWouldAddALine) {
  const std::string head =
      http_head({.status = 200, .length = 3}, {{"x-a", "b\r\nset-cookie: c"},
                                               {"x b", "c"},
                                               {"x-curl\r\n", "d"},
                                               {"Content-Length", "7"},
                                               {"transfer-encoding", "chunked"},
                                               {"X-Good", "yes"},
                                               {"Cache-Control", "max-age=5"}});
  EXPECT_EQ(head.find("set-cookie"), std::string::npos) << head;
  EXPECT_EQ(head.find("x b"), std::string::npos);
  EXPECT_EQ(head.find("x-curl"), std::string::npos);
  EXPECT_EQ(head.find(": 7"), std::string::npos);
  EXPECT_EQ(head.find("chunked"), std::string::npos);
  EXPECT_NE(head.find("x-good: yes\r\n"), std::string::npos);
  EXPECT_NE(head.find("cache-control: max-age=5\r\n"), std::string::npos);
  EXPECT_EQ(head.find("no-store"), std::string::npos);
}

}  // namespace
}  // namespace hadal::server
